-- Schemas, search_path and databases.
create schema app;
create schema if not exists app;
create schema authorization nodedb;
create schema other authorization nodedb;
-- @open: sqlstate: no error | 42P01 relation "ft" does not exist at 80
create schema full_one create table ft (a int) create view fv as select a from ft;
-- @open: sqlstate: no error | 42P01 relation "full_one.fv" does not exist at 15
select * from full_one.fv;
create table app.t (a int);
insert into app.t values (1);
select * from app.t;
select app.t.a, t.a from app.t;
set search_path to app, public;
show search_path;
select current_schema(), current_schemas(false), current_schema;
select a from t;
create table t2 (b int);
-- @simple (its binary form has an oid)
select 't2'::regclass, 'app.t'::regclass, to_regclass('public.t2');
set search_path = other;
select * from t;
-- @simple (its binary form has an oid)
select 'app.t2'::regclass;
select current_schema, current_schemas(true);
set search_path = nosuch;
select current_schema();
-- @open: position: '14' | None
create table nowhere (a int);
select 1 + 1, upper('x');
set search_path = 'app', "$user";
select current_schema();
reset search_path;
show search_path;
alter schema other rename to renamed;
alter schema renamed owner to nodedb;
-- @open: tag: SELECT 6 | SELECT 5
select nspname from pg_namespace where nspname !~ '^pg_' order by 1;
select schema_name from information_schema.schemata where schema_name in ('app', 'renamed', 'public') order by 1;
create view app.v as select * from app.t;
drop schema app;
drop schema app restrict;
-- @open: sqlstate: no error | 3F000 schema "full_one" does not exist at None
drop schema renamed, full_one cascade;
drop schema if exists renamed, nosuch;
drop schema app cascade;
select to_regclass('app.t');
comment on schema public is 'changed comment';
select obj_description('public'::regnamespace, 'pg_namespace');
create database corpus_extra_36;
create database corpus_extra_36b with owner = nodedb encoding = 'UTF8' template = template0 connection limit = 5;
select datname, datconnlimit, pg_encoding_to_char(encoding) from pg_database where datname like 'corpus_extra_36%' order by 1;
alter database corpus_extra_36b rename to corpus_extra_36c;
alter database corpus_extra_36 connection limit 3;
alter database corpus_extra_36 owner to nodedb;
alter database corpus_extra_36 set work_mem = '8MB';
alter database corpus_extra_36 reset work_mem;
drop database corpus_extra_36c;
drop database if exists corpus_extra_36c;
drop database corpus_extra_36 with (force);
select current_database(), current_catalog;
select corpus_36.public.t.a from corpus_36.public.t;
create table corpus_36.public.dotted (a int);
select * from corpus_36.public.dotted;
create schema public;
create schema pg_mine;
create schema bad authorization nosuch;
create schema;
create schema app2 create table app3.x (a int);
create schema app2 create nonsense;
drop schema nosuch;
drop schema nosuch cascade;
drop schema pg_catalog;
drop schema;
alter schema nosuch rename to x;
alter schema public rename to pg_x;
alter schema public owner to nosuch;
alter schema public;
create database corpus_36;
create database bad owner nosuch;
create database bad template nosuch;
-- @open: sqlstate: 42704 nope is not a valid encoding name at 21 | 22023 encoding "nope" does not match locale "C.UTF-8" at None
create database bad encoding 'nope';
-- @open: sqlstate: 22023 invalid connection limit: -5 at None | no error
create database bad connection limit -5;
create database bad nosuch = 1;
create database bad owner nodedb owner nodedb;
create database;
drop database nosuch;
drop database corpus_36;
drop database;
drop database if exists nosuch with (bogus);
alter database nosuch rename to x;
alter database corpus_36 rename to x;
alter database corpus_36 owner to nosuch;
alter database corpus_36;
begin;
create database bad;
rollback;
begin;
drop database template1;
rollback;
set search_path = ;
set search_path to app,;
select nosuch.t.a from nosuch.t;
select otherdb.public.t.a from otherdb.public.t;
select a.b.c.d.e;
