-- Collations.
create table co (id int primary key, c text collate "C", d text, p varchar(10) collate "POSIX", u text collate ucs_basic);
insert into co values (1, 'a', 'a', 'a', 'a'), (2, 'B', 'B', 'B', 'B'), (3, 'é', 'é', 'é', 'é'), (4, 'Z', 'Z', 'Z', 'Z'), (5, 'aa', 'aa', 'aa', 'aa');
select id from co order by c;
select id from co order by d;
select id from co order by d collate "C" desc;
select id from co order by p collate "POSIX", u;
select c < 'b' collate "C", c > 'A' from co order by id;
select 'a' < 'B' collate "C", 'a' < 'B' collate "default", ('a' collate "C") = 'a';
select max(c), min(d collate "C"), max(u) from co;
select id from co where c = d order by id;
select c || p from co where id = 1;
create index co_i on co (d collate "C");
select id from co where d collate "C" >= 'a' order by d collate "C";
-- @open: rows: [['é', 'é', 'éLan']] | [['É', 'é', 'Élan']]
select upper(d collate "C"), lower(c), initcap('élan' collate "C") from co where id = 3;
-- @open: sqlstate: 42804 collations are not supported by type integer at None | no error
select collation for ('a'), collation for (c), collation for ('a'::text collate "C"), collation for (1) is null from co where id = 1;
-- @open: rows: [['unknown', 'a', '{b,a}']] | [['text', 'a', '{b,a}']]
select pg_typeof('a' collate "C"), 'a'::varchar(3) collate "C", array['b','a'] collate "C";
select collname from pg_collation where collname in ('C', 'POSIX', 'default') order by 1;
select column_name, collation_name from information_schema.columns where table_name = 'co' order by ordinal_position;
-- @open: sqlstate: 42P21 collation mismatch between implicit collations "C" and "POSIX" at 31 | 42804 collations are not supported by type integer at 52
select c from co union select p from co order by 1 collate "C" limit 2;
alter table co alter column d type text collate "C";
select id from co where d > 'Z' order by d;
select string_agg(c, '' order by d collate "C") from co;
select distinct c collate "C" as k from co order by k;
select 'a' collate "nosuch";
-- @open: sqlstate: 3F000 schema "nosuch" does not exist at 12 | 42704 collation "nosuch.x" for encoding "UTF8" does not exist at 12
select 'a' collate nosuch.x;
select 1 collate "C";
select now() collate "C";
-- @open: sqlstate: 42P22 could not determine which collation to use for string comparison at None | no error
select c = p from co;
-- @open: sqlstate: 42P21 collation mismatch between implicit collations "C" and "POSIX" at 33 | no error
select id from co order by c || p;
select c < p collate "C" from co where id = 1;
-- @open: sqlstate: 42P21 collation mismatch between explicit collations "C" and "POSIX" at 33 | no error
select ('a' collate "C") < ('b' collate "POSIX");
-- @open: sqlstate: 42P22 could not determine which collation to use for string comparison at None | no error
select max(c || p) from co;
select * from co order by id collate "C";
-- @open: sqlstate: 42P21 collation mismatch between implicit collations "C" and "POSIX" at 31 | no error
select c from co union select p from co order by 1;
-- @open: position: '25' | None
create table bad (a int collate "C");
-- @open: position: '26' | None
create table bad (a text collate "en_XX");
create index bad on co (id collate "C");
create index bad on co (d collate "nosuch");
select 'a' collate;
select 'a' collate 'C';
select collation for ();
-- @open: sqlstate: 42P22 could not determine which collation to use for string comparison at None | no error
select greatest(c, p) from co where id = 1;
-- @open: sqlstate: 42P22 could not determine which collation to use for string comparison at None | no error
select case when true then c else p end = 'a' from co where id = 1;
drop table co;
