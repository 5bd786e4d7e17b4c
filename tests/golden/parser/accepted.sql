select
select 1
select 1, 'a', 1.5, 1e3, .5, 5., null, true, false
select 1 a, 2 as b, 3 "C", 4 as select, 5 value, 6 name
select * from t
select t.*, s.t.a, a.b.c.d from t
select distinct a from t
select distinct on (a, b) a, b from t order by a, b desc nulls last
select all a from t
select a + b * c - d / e % f ^ g from t
select a or b and not c or d is null
select a = b, a < b, a > b, a <= b, a >= b, a <> b, a != b
select not a = b
select - a ^ b, -1, - 1, +a, - -1, -1.5, -9223372036854775808, - 9223372036854775809
select a is null, b is not null, c isnull, d notnull
select a is true, a is not true, a is false, a is unknown, a is not unknown
select a is distinct from b, a is not distinct from b
select a between 1 and 2 and b, a not between symmetric 1 and 2, a between asymmetric b + 1 and c
select a in (1, 2), a not in (1), a in (select 1), (a, b) in (select 1, 2), a in ((select 1)), a in ((select 1), 2)
select a like 'x', a not like 'x' escape 'y', a ilike 'b', a not ilike 'b', a similar to 'x', a not similar to 'x' escape '!'
select a like any (array['x']), a not ilike all (array['x'])
select a = any (array[1,2]), a <> all ('{1}'), a = some (select 1), a < any ((select 1))
select a || b || c, a -> 'b' ->> 'c', a @> b, a ~ 'x', a !~* 'x', @ a, |/ 2, a & b | c # d, ~ a, a << 2 >> 3
select a operator(pg_catalog.+) b, a operator(+) b, operator(-) 1
select a at time zone 'UTC' at time zone 'x'
select a collate "C" < b collate pg_catalog."C"
select a::int::text, '1'::int4, cast(a as numeric(10,2)), cast('x' as character varying(3)[])
select a::timestamp(3) with time zone, a::time without time zone, a::timestamp, a::timetz
select a::double precision, a::float, a::float(10), a::bit varying(3), a::bit(3), a::bit, a::"char", a::char(3), a::national character varying(3), a::nchar(2)
select a::interval, a::interval(3), a::interval year to month, a::interval day to second(3), a::interval second(2), a::interval hour
select a::int[], a::int[3][4], a::int array, a::int array[4], a::pg_catalog.int4, a::public.foo(1)
select date '2020-01-01', timestamp '2020-01-01', timestamptz 'x', time with time zone '10:00', interval '1' day, interval(3) '1 day', interval '1 day 2' day to hour, int '3', numeric(3,1) '1.5', char(3) 'abc', bool 't', double precision '1', float8 '1', pg_catalog.int4 '1', varbit(3) '101', json '{}', nchar 'x', n'abc', bit '101'
select b'101', x'1F', B'1' , E'a\nb', U&'d\0061t\+000061', U&'d!0061' uescape '!', $$a'b$$, $x$a$$b$x$, 'a''b'
select 'a'
'b'
select case when a then b end, case a when 1 then 2 when 3 then 4 else 5 end
select coalesce(a, b), nullif(a, b), greatest(a, b, c), least(1)
select exists (select 1), array(select 1), array[1, 2], array[[1,2],[3,4]], array[]::int[], (select 1), ((select 1)), (((select 1)) union select 2)
select ((select 1) + 1), ((select 1), 2), (select 1)::int, ((select array[1])[1])
select row(1, 2), row(), (1, 2), (1, 2, 3), row(1), row(t.*)
select a[1], a[1][2], a[1:2], a[:2], a[1:], a[:], a.b[1].c, (a).b, (a).*, (a).b.c, (f(x)).y, (a)[1], $1[1], $1.x, $1
select f(), f(1, 2), s.f(a => 1, b := 2), f(variadic array[1]), f(1, variadic a), f(distinct a), f(all a), f(a order by b desc, c using <), f(*)
select count(*), sum(a) filter (where b > 1), percentile_cont(0.5) within group (order by a)
select row_number() over (), rank() over w, sum(a) over (partition by b order by c), sum(a) over (w rows between unbounded preceding and current row) from t window w as (partition by a order by b), w2 as (w)
select sum(a) over (order by b rows 3 preceding), sum(a) over (range between 1 preceding and 1 following exclude current row), sum(a) over (groups between current row and unbounded following exclude ties), sum(a) over (rows unbounded preceding exclude no others)
select current_date, current_time, current_time(3), current_timestamp, current_timestamp(0), localtime, localtimestamp(2), current_user, session_user, user, current_role, current_catalog, current_schema, current_schema()
select extract(year from a), extract('epoch' from a), extract(dow from a)
select overlay(a placing b from 1 for 2), overlay(a placing b from 1), overlay(a, b, 1)
select position('a' in 'b'), position(a || b in c)
select substring(a from 1 for 2), substring(a from 1), substring(a for 2), substring(a for 2 from 1), substring(a similar b escape c), substring(a, 1, 2), substring(a, 1)
select trim(a), trim(both from a), trim(leading 'x' from a), trim(trailing from a), trim('x' from a), trim(a, b), trim(both a, b)
select normalize(a), normalize(a, nfc), a is normalized, a is nfc normalized, a is not nfkd normalized
select (a, b) overlaps (c, d), row(a, b) overlaps row(c, d)
select collation for (a)
select left('abc', 2), right('abc', 1), "left"('a', 1)
select a as "A b", b as "from" from "T x"
select values, between, int, row, time, char, numeric, exists, coalesce, interval, position from t
select a AS day, 1 from t
select a from t, s as x, only u, v *, w (a, b), (select 1) x, lateral (select 2) y (z), (values (1, 2), (3, 4)) as v (a, b)
select a from t join s on t.a = s.a left join u using (a, b) right outer join v on true full join w on false cross join x natural join y natural left join z inner join q on 1 = 1
select a from t join s join u on true on false
select a from (t join s on true) join u using (a) as j, (t cross join s) as k, ((t cross join s)), ((select 1) as x cross join s)
select a from f(1), f(1) as x, f(1) x (a, b), f(1) with ordinality as x, f(1) as x (a int, b text), f(1) as (a int), rows from (f(1), g(2)) as x, lateral f(t.a), generate_series(1, 2) g
select a from ((select 1 union select 2) union select 3) x
select a from t where a = 1 group by a, b having count(*) > 1 order by 1, a desc, b nulls first limit 10 offset 5
select a from t group by rollup (a, b), cube (a, (b, c)), grouping sets ((a), (), rollup (b)), ()
select a from t group by distinct a
select a, grouping(a, b) from t group by all a, b
select a from t offset 5 rows fetch next 3 rows only
select a from t fetch first row only
select a from t order by a fetch first 5 rows with ties
select a from t limit all
select a from t limit null offset 1
select a from t limit $1 offset $2
select a from t for update
select a from t for update of t, s nowait for share skip locked
select a from t limit 1 for no key update
select a from t for key share limit 1
select 1 union select 2
select 1 union all select 2 intersect select 3 except all select 4 order by 1
(select 1) union (select 2 limit 1) limit 3
(select 1)
((select 1))
(select 1 order by 1) limit 1
values (1, 2), (3, 4) order by 1 limit 1
table t
table only t order by 1
with a as (select 1), b (x, y) as not materialized (select 1, 2), c as materialized (values (1)) select * from a, b
with recursive r as (select 1 union all select n + 1 from r) select * from r
with a as (insert into t values (1) returning *) select * from a
with a as (update t set a = 1 returning a), b as (delete from t returning *) insert into s select * from a
select a into t from s
select a into temp table t from s
select 1 where exists (select 1 from t where t.a = any (select b from s))
insert into t values (1, 'a', default)
insert into t (a, b) values (1, 2), (3, 4)
insert into s.t as x (a) values (1)
insert into t default values
insert into t (a) select b from s
insert into t (select 1)
insert into t (a) (select 1)
insert into t overriding system value values (1)
insert into t (a) overriding user value select 1
insert into t values (1) on conflict do nothing
insert into t values (1) on conflict (a, lower(b), (c + 1)) where d do update set a = excluded.a, (b, c) = (select 1, 2) where t.a > 1 returning a, b as c, *
insert into t values (1) on conflict on constraint x do nothing
insert into t (a) values (1) on conflict (a collate "C" text_ops) do nothing
with x as (select 1) insert into t select * from x
insert into t with x as (select 1) select * from x
update t set a = 1
update only t as x set a = a + 1, b = default, (c, d) = (1, 2), (e) = row(3) from s, u where x.a = s.a returning x.*
update t x set a = 1 where current of c
update t set a[1] = 2, set = 3
with x as (select 1) update t set a = 1 from x
delete from t
delete from only t as x using s join u on true where x.a = s.a returning *
delete from t x where current of c
with x as (select 1) delete from t using x
create table t (a int, b text)
create table t ()
create table if not exists s.t (a int primary key)
create temp table t (a int) on commit drop
create temporary table t (a int) on commit preserve rows
create local temp table t (a int) on commit delete rows
create unlogged table t (a int)
create table t (a int not null null default 1 unique check (a > 0) references s (b) on delete cascade on update set null)
create table t (a int constraint x not null constraint y primary key constraint z default 1 + 2 constraint c check (a > 0) no inherit)
create table t (a int generated always as identity, b int generated by default as identity (start 5 increment by 2 no cycle), c int generated always as (a + b) stored)
create table t (a varchar(10) collate "C" default 'x'::text, b char, c serial, d numeric(10, -2), e timestamp(3) with time zone default now())
create table t (a int references s match full deferrable initially deferred, b int unique not deferrable, c int references s.u initially immediate)
create table t (a int, b int, primary key (a, b), unique (a) include (b), constraint x check (a > b), foreign key (a, b) references s (a, b) on delete set null (a) on update no action, constraint f foreign key (a) references s not valid)
create table t (a int, unique nulls not distinct (a), unique nulls distinct (a) with (fillfactor = 70) using index tablespace x deferrable)
create table t (like s including all excluding defaults, a int)
create table t (a int) inherits (s, u)
create table t (a int) with (fillfactor = 70, autovacuum_enabled = false, toast.x = 1, y)
create table t (a int) without oids
create table t (a int) tablespace x
create table t (a int) using heap
create table t (a int) partition by range (a, lower(b))
create table t partition of s for values in (1)
create table t of u
create table t as select 1
create table t (a, b) as select 1, 2 with no data
create table if not exists t as values (1) with data
create temp table t with (fillfactor = 10) as select 1
create table "T" ("Select" int, name text, value int, date date, text text, time time)
create table t (a int[], b text[][], c int array, d double precision, e interval day to second, f bit varying(3))
create index on t (a)
create unique index concurrently if not exists i on only s.t using btree (a desc nulls last, lower(b) asc, (c + 1) text_ops, d collate "C" nulls first) include (e, f) nulls not distinct with (fillfactor = 70) tablespace x where a > 0
create index i on t using hash (a)
create index concurrently on t (a)
create schema s
create schema if not exists s authorization x
create schema authorization current_user
create schema s create table t (a int) create view v as select 1 grant select on t to public
create database d
create database d with owner = x template template0 encoding 'UTF8' connection limit 5 lc_collate = 'C'
create sequence s
create temp sequence if not exists s as bigint increment by -1 minvalue -10 no maxvalue start with 5 cache 10 cycle owned by t.a
create sequence s owned by none no cycle
create view v as select 1
create or replace temp view v (a, b) with (security_barrier) as select 1, 2 with local check option
create recursive view v (n) as select 1
create view v as select 1 with check option
create role r
create role r with login superuser createdb nocreaterole noinherit replication bypassrls connection limit 5 password 'x' valid until '2030-01-01' in role a, b role c admin d
create user u password null
create user u encrypted password 'x'
create group g with user a, b
create extension if not exists plpgsql with schema s version '1' cascade
alter table t add a int
alter table if exists only s.t add column if not exists a int not null default 1, drop column if exists b cascade, drop c
alter table t alter a type text, alter column b set data type int using b::int, alter c type text collate "C"
alter table t alter a set default 1, alter a drop default, alter a set not null, alter a drop not null
alter table t alter a add generated always as identity (start 1), alter a set generated by default set increment 2 restart with 3, alter a drop identity if exists, alter a drop expression, alter a restart
alter table t alter a set statistics 100, alter a set storage plain, alter a set (n_distinct = 5), alter a reset (n_distinct), alter a set compression pglz
alter table t add constraint c check (a > 0) not valid, add primary key (a), add constraint u unique using index i, add foreign key (a) references s, add unique (a) deferrable initially deferred
alter table t validate constraint c, drop constraint if exists d cascade, alter constraint f deferrable initially deferred
alter table t set (fillfactor = 50), reset (fillfactor), owner to x, set logged, set unlogged, set without oids, set tablespace y, cluster on i, set without cluster
alter table t owner to current_user
alter table t replica identity full, replica identity using index i
alter table t enable row level security, disable row level security, force row level security, no force row level security
alter table t rename to s
alter table t rename column a to b
alter table t rename a to b
alter table t rename constraint a to b
alter table if exists t set schema s
alter table t attach partition s for values in (1)
alter table t detach partition s concurrently
alter index i rename to j
alter index if exists i set (fillfactor = 5)
alter index i set tablespace x
alter view v rename to w
alter view v rename column a to b
alter view v alter column a set default 1
alter view v owner to x
alter view v set schema s
alter materialized view v rename to w
alter sequence s restart
alter sequence if exists s increment 5 restart with 10 owned by t.a
alter sequence s owner to x
alter sequence s rename to t
alter sequence s set schema x
alter schema s rename to t
alter schema s owner to x
alter database d rename to e
alter database d owner to session_user
alter database d set search_path to a, b
alter database d set tablespace x
alter database d reset all
alter database d with connection limit 5
alter database d is_template true
alter role r with login
alter role r rename to s
alter user u password 'x'
alter role all set work_mem = '1MB'
alter role r in database d set timezone to default
alter role r reset all
alter group g add user a, b
alter group g drop user a
alter system set work_mem = '1MB'
alter system reset all
alter default privileges in schema s for role r grant select on tables to x
alter default privileges revoke all privileges on functions from public cascade
drop table t
drop table if exists s.t, u cascade
drop index concurrently if exists i restrict
drop view v
drop materialized view v
drop sequence s, t
drop schema if exists a, b cascade
drop database if exists d with (force)
drop role if exists a, b
drop user u
drop group g
drop owned by a, current_user cascade
drop extension x
drop type if exists t cascade
drop domain d
drop function f(int), g
drop aggregate a (int)
drop trigger x on t
drop policy p on t
drop language l
reassign owned by a, b to c
truncate t
truncate table only t, s restart identity cascade
truncate t continue identity restrict
reindex table t
reindex (verbose) index concurrently i
reindex database d
comment on table t is 'x'
comment on column s.t.a is null
comment on constraint c on t is 'x'
comment on database d is 'x'
comment on function f(int) is 'x'
comment on materialized view v is 'x'
comment on role r is 'x'
comment on trigger x on t is 'x'
grant select on t to public
grant select, insert (a, b), update on table t, s.u to x, group y with grant option granted by current_user
grant all on schema s to x
grant all privileges on all tables in schema s, t to x
grant usage on sequence s to x
grant create, connect on database d to x
grant execute on function f(int, text), g() to x
grant a, b to c with admin option granted by d
grant usage on language plpgsql to x
grant usage on type t to x
grant set on parameter work_mem to x
grant usage on foreign server s to x
revoke all on t from x cascade
revoke grant option for select on t from public
revoke a from b
revoke admin option for a from b cascade
begin
begin work isolation level repeatable read, read only not deferrable
begin transaction read write
start transaction isolation level serializable
commit
commit work and chain
commit and no chain
end transaction
rollback
rollback and chain
abort work
rollback to a
rollback to savepoint a
rollback work to savepoint
savepoint a
release a
release savepoint a
prepare transaction 'x'
commit prepared 'x'
rollback prepared 'x'
set transaction isolation level read uncommitted
set transaction read only, deferrable
set session characteristics as transaction isolation level read committed
set local transaction read only
set constraints all deferred
set constraints a, b.c immediate
set a = 1
set session a to on
set local a.b = 'x', y, -1.5
set a to default
set time zone 'UTC'
set time zone -3
set time zone local
set time zone interval '-08:00' hour to minute
set timezone to 'x'
set names 'utf8'
set names
set role none
set role 'x'
set session authorization x
set session authorization default
set schema 'x'
set search_path from current
set xml option document
reset a
reset all
reset time zone
reset session authorization
reset transaction isolation level
show a
show a.b
show all
show time zone
show transaction isolation level
show session authorization
discard all
discard plans
discard temporary
prepare a as select $1
prepare a (int, text[]) as insert into t values ($1, $2)
execute a
execute a (1, 'x')
deallocate a
deallocate prepare a
deallocate all
deallocate prepare all
deallocate prepare
declare c cursor for select 1
declare c binary insensitive no scroll cursor with hold for select 1
declare c scroll cursor without hold for values (1)
fetch c
fetch next from c
fetch 5 in c
fetch -1 from c
fetch all c
fetch all from c
fetch forward all from c
fetch backward 3 c
fetch absolute -1 from c
fetch relative 2 c
fetch first from c
fetch last in c
fetch prior c
fetch forward c
fetch from c
move 3 from c
close c
close all
explain select 1
explain analyze verbose select 1
explain (analyze, verbose false, costs on, format json, buffers 1) select 1
explain (select 1)
explain verbose insert into t values (1)
explain create table t as select 1
explain execute a (1)
explain declare c cursor for select 1
explain analyse delete from t
copy t from stdin
copy t (a, b) to stdout
copy t from '/x' with (format csv, header, delimiter ',', null 'x', quote '"', escape '\', force_quote (a, b), force_null *, encoding 'utf8', freeze off) where a > 1
copy (select 1) to stdout with csv header
copy (insert into t values (1) returning a) to program 'x' (format binary)
copy binary t from stdin
copy t to stdout delimiter as ',' null 'x' csv quote as 'q' escape 'e' force quote a, b
copy t from stdin using delimiters ',' with csv force not null a force null b encoding 'x'
listen a
unlisten a
unlisten *
notify a
notify a, 'x'
lock t
lock table only t, s in access exclusive mode nowait
lock t in share row exclusive mode
lock t in row share mode
analyze
analyze t
analyze verbose t (a, b), s
analyze (verbose, skip_locked true) t
vacuum
vacuum full freeze verbose analyze t (a)
vacuum (full, analyze false, parallel 2) t, s
checkpoint
do $$begin end$$
do language plpgsql $$begin end$$
create function f() returns int as $$ select 1; $$ language sql
create or replace function f() returns int language sql as 'select 1'
create trigger x before insert on t for each row execute function f()
create type t as enum ('a')
create domain d as int
create policy p on t
create rule r as on insert to t do nothing
create publication p
create aggregate a (int) (sfunc = f, stype = int)
create materialized view v as select 1
create operator @@ (leftarg = int, procedure = f)
create cast (int as text) with function f
create statistics s on a, b from t
create tablespace x location '/x'
create foreign table t (a int) server s
create server s foreign data wrapper w
create event trigger e on ddl_command_start execute function f()
create text search configuration x (parser = y)
alter type t add value 'x'
alter function f() owner to x
alter domain d drop not null
alter policy p on t to x
call f()
call f(1, 2)
cluster
cluster t using i
load 'x'
refresh materialized view v
security label on table t is 'x'
import foreign schema s from server x into y
merge into t using s on t.a = s.a when matched then delete
