-- Views.
create table vt (id int primary key, a int, b text);
insert into vt values (1, 10, 'x'), (2, 20, 'y'), (3, 30, null);
create view v1 as select id, a * 2 as double, b from vt where a > 10;
create view v2 (x, y) as select id, count(*) from vt group by id;
create or replace view v1 as select id, a * 3 as double, b from vt where a > 10;
create or replace view v1 as select id, a * 3 as double, b, a from vt where a > 10;
create view v3 as select v1.id, v2.y from v1 join v2 on v1.id = v2.x;
create temp view v4 as select 1 as one;
create view v5 as values (1, 'a'), (2, 'b');
create view v6 as with c as (select max(a) m from vt) select m from c;
create view v7 as select * from vt;
create view v8 as select id, a from vt where a < 25 with check option;
create view v9 as select id from vt union select 99 order by 1 desc;
select * from v1 order by id;
select * from v2 order by x;
select * from v3 order by id;
select * from v4, v5 order by column1;
select * from v6;
select * from v9;
alter table vt add column c int default 5;
select * from v7 order by id;
insert into v7 values (4, 40, 'w');
update v7 set a = a + 1 where id = 4 returning *;
delete from v7 where id = 4 returning id;
-- @open: sqlstate: no error | 0A000 writing to view "v8" is not supported: it has a CHECK OPTION at None
insert into v8 values (5, 5);
-- @open: sqlstate: 44000 new row violates check option for view "v8" at None | 0A000 writing to view "v8" is not supported: it has a CHECK OPTION at None
insert into v8 values (6, 60);
-- @open: sqlstate: 44000 new row violates check option for view "v8" at None | 0A000 writing to view "v8" is not supported: it has a CHECK OPTION at None
update v8 set a = 100 where id = 1;
-- @open: sqlstate: no error | 0A000 writing to view "v8" is not supported: it has a CHECK OPTION at None
delete from v8 where id = 5;
select count(*) from vt;
select pg_get_viewdef('v1'::regclass);
-- @open: rows: [[' SELECT vt.id AS x,\n count(*) AS y\n FROM vt\n GROUP BY vt.id;']] | [[' SELECT vt.id,\n count(*) AS count\n FROM vt\n GROUP BY vt.id;']]
select pg_get_viewdef('v2', true);
select viewname, definition from pg_views where viewname = 'v4';
-- @open: columns: [['table_name', 19, 64, -1], ['is_updatable', 1043, -1, 7], ['is_insertable_into', 1043, -1, 7]] | [['table_name', 19, 64, -1], ['is_updatabl
select table_name, is_updatable, is_insertable_into from information_schema.views where table_name in ('v1', 'v2', 'v8') order by 1;
select table_name, column_name, data_type from information_schema.columns where table_name in ('v1', 'v2') order by 1, ordinal_position;
alter view v2 rename to v2b;
-- @open: sqlstate: no error | 42809 ALTER action ALTER COLUMN ... SET DEFAULT cannot be performed on relation "v7" at None
alter view v7 alter column a set default 77;
-- @open: rows: [['77']] | [[None]]
insert into v7 (id) values (7) returning a;
alter view if exists nosuch rename to x;
alter view v5 rename column column1 to first;
select first from v5 order by 1;
drop view v4;
drop view if exists v4, v5;
drop view v6, v9;
-- @differs: materialized views are not supported
create materialized view mv as select count(*) as c from vt;
drop view v1;
drop view v1 cascade;
select * from v3;
create recursive view rv (n) as values (1) union all select n + 1 from rv where n < 3;
select * from rv order by n;
create view vt as select 1;
create view v7 as select 1;
create or replace view v7 as select id from vt;
create or replace view v7 as select id, b, a from vt;
create or replace view v7 as select id, a::text as a, b from vt;
create or replace view vt as select 1;
create view bad as select nosuch from vt;
create view bad as select * from nosuch;
create view bad as select 1, 2, 1 as "?column?";
create view bad as select 1 as a, 2 as a;
create view bad (x, y) as select 1;
create view bad (x, x) as select 1, 2;
create view bad as insert into vt values (1);
-- @open: sqlstate: 0A000 views must not contain SELECT INTO at None | 42601 SELECT ... INTO is not allowed here at 34
create view bad as select 1 into x;
create view bad as;
create view bad select 1;
create view as select 1;
create view bad as select $1;
create view bad with (nosuch = true) as select 1;
create view bad as select id from vt group by a;
create view v10 as select distinct a from vt;
insert into v10 values (1);
update v10 set a = 1;
delete from v2b;
-- @open: sqlstate: 42703 column "nosuch" of relation "v8" does not exist at 17 | 0A000 writing to view "v8" is not supported: it has a CHECK OPTION at None
insert into v8 (nosuch) values (1);
create view v11 as select id, a + 1 as calc from vt;
update v11 set calc = 5;
insert into v11 values (9, 9);
drop view nosuch;
drop view vt;
drop table v7;
drop table vt;
drop view;
drop view v7 cascade restrict;
alter view nosuch rename to x;
alter view v7 rename to vt;
alter table vt drop column a;
alter table vt drop column c;
alter table vt alter column b type varchar(10);
truncate v7;
create view bad as select * from vt with check option;
-- @open: sqlstate: 0A000 WITH CHECK OPTION is supported only on automatically updatable views at None | no error
create view v12 as select count(*) from vt with check option;
-- @differs: materialized views are not supported
refresh materialized view v7;
drop table vt cascade;
