-- NOT NULL, CHECK, UNIQUE, PRIMARY KEY at work.
create table c1 (id int primary key, a int not null, b int check (b between 1 and 10), c text unique, d int default 7, constraint ab check (a + b < 15), unique (a, d));
insert into c1 values (1, 1, 1, 'x'), (2, 2, null, 'y'), (3, 3, 3, null), (4, 4, 4, null);
insert into c1 values (1, 9, 1, 'z');
insert into c1 values (5, null, 1, 'z');
insert into c1 values (5, 5, 11, 'z');
insert into c1 values (5, 8, 8, 'z');
insert into c1 values (5, 5, 5, 'x');
insert into c1 values (5, 1, 1, 'w', 7);
insert into c1 (id) values (6);
insert into c1 (a) values (6);
insert into c1 values (7, 7, 1, 'n', null), (8, 7, 1, 'm', null);
update c1 set id = 1 where id = 2;
update c1 set a = null where id = 1;
update c1 set b = 0 where id = 1;
update c1 set b = 10, a = 9 where id = 1;
update c1 set c = 'x' where id = 2;
update c1 set id = id + 100;
update c1 set id = id - 100 where id > 104;
update c1 set id = id + 1 where id < 104;
select id, a, b, c, d from c1 order by id;
create table c2 (a int, b int, c int, primary key (a, b));
insert into c2 values (1, 1, 1), (1, 2, 2), (2, 1, 3);
insert into c2 values (1, 1, 9);
insert into c2 values (1, null, 9);
insert into c2 values (null, 1, 9);
update c2 set b = 1 where c = 2;
update c2 set a = a + 1, b = b + 1;
insert into c2 select a + 10, b, c from c2;
select * from c2 order by a, b;
delete from c2 where (a, b) = (2, 2) returning *;
create table c3 (a int constraint positive check (a > 0) constraint small check (a < 100), b text constraint nonempty check (length(b) > 0), check (a > 5 or b is null));
insert into c3 values (0, 'x');
insert into c3 values (100, 'x');
insert into c3 values (5, '');
insert into c3 values (5, 'x');
insert into c3 values (null, null), (6, 'ok');
insert into c3 values (1, 1, 1);
create table c4 (a int unique deferrable initially deferred, b int unique deferrable);
insert into c4 values (1, 1), (2, 2);
update c4 set a = a + 1;
begin;
-- @open: sqlstate: no error | 23505 duplicate key value violates unique constraint "c4_a_key" at None
insert into c4 values (3, 3);
-- @open: sqlstate: no error | 25P02 current transaction is aborted, commands ignored until end of transaction block at None
insert into c4 values (3, 4);
-- @open: sqlstate: no error | 25P02 current transaction is aborted, commands ignored until end of transaction block at None
update c4 set a = 4 where b = 4;
-- @open: sqlstate: 23505 duplicate key value violates unique constraint "c4_a_key" at None | no error
commit;
select * from c4 order by b;
begin;
insert into c4 values (4, 5);
commit;
begin;
-- @open: sqlstate: no error | 23505 duplicate key value violates unique constraint "c4_a_key" at None
insert into c4 values (4, 6);
-- @open: sqlstate: 23505 duplicate key value violates unique constraint "c4_a_key" at None | 25P02 current transaction is aborted, commands ignored until end o
set constraints all immediate;
rollback;
begin;
set constraints c4_b_key deferred;
-- @open: sqlstate: no error | 23505 duplicate key value violates unique constraint "c4_b_key" at None
insert into c4 values (9, 1);
-- @open: sqlstate: no error | 25P02 current transaction is aborted, commands ignored until end of transaction block at None
update c4 set b = 10 where a = 9;
-- @open: tag: COMMIT | ROLLBACK
commit;
-- @open: sqlstate: 23505 duplicate key value violates unique constraint "c4_b_key" at None | no error
insert into c4 values (20, 10);
-- @open: sqlstate: 42704 constraint "nosuch" does not exist at None | no error
set constraints nosuch deferred;
create table c5 (a int primary key deferrable initially immediate, b int);
insert into c5 values (1, 1), (2, 2), (3, 3);
update c5 set a = a + 1;
update c5 set a = 3;
select * from c5 order by a;
-- @open: sqlstate: 55000 ON CONFLICT does not support deferrable unique constraints/exclusion constraints as arbiters at None | 42P10 there is no unique or exc
insert into c5 values (2, 9) on conflict (a) do nothing;
create table c6 (v varchar(3) check (v <> 'bad'), n numeric(3,1) not null check (n > 0));
insert into c6 values ('bad', 1);
insert into c6 values ('long', 1);
insert into c6 values ('ok', 0.04);
insert into c6 values ('ok', 99.95);
insert into c6 values ('ok', 0.05) returning *;
create unique index c6_u on c6 (lower(v));
insert into c6 values ('OK', 1);
create unique index c6_p on c6 (n) where v is not null;
insert into c6 values (null, 0.1), (null, 0.1);
insert into c6 values ('x', 0.1);
insert into c1 values (1);
insert into c1 values (1, 2, 3, 'x', 5, 6);
create table c7 (a int check (a > 0) no inherit, b int check (b > 0 and b < c), c int);
insert into c7 values (1, 5, 4);
insert into c7 values (1, 3, 4);
create table bad (a int, unique (b));
create table bad (a int, primary key (a), primary key (a));
create table bad (a int check);
create table bad (a int check a > 1);
create table bad (a int not);
create table bad (a int, unique);
create table bad (a int not null deferrable);
create table bad (a int check (a > 1) deferrable);
create table bad (a int unique initially deferred not deferrable);
create table bad (a int deferrable);
create table bad (a int, constraint x);
drop table c1, c2, c3, c4, c5, c6, c7;
