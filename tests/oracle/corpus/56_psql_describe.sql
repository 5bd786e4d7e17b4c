-- The queries of psql's own commands, run by psql itself.
create table d1 (id serial primary key, v varchar(20) not null default 'x', n numeric(10,2), ts timestamptz default now(), constraint d1_chk check (n > 0), unique (v, n));
create table d2 (id int generated always as identity primary key, d1_id int references d1 (id) on delete cascade deferrable, note text collate "C");
create index d1_n on d1 (n desc) where n > 5;
create index d1_low on d1 (lower(v));
create view dv as select id, v from d1 where n > 1;
create sequence dseq start 5;
create schema dsch;
create table dsch.inner_t (a int);
create role r56_x;
grant select, insert on d1 to r56_x;
comment on table d1 is 'the first';
comment on column d1.v is 'a value';
comment on view dv is 'the view';
comment on sequence dseq is 'the sequence';
comment on index d1_n is 'the index';
comment on schema dsch is 'the schema';
\d
\d d1
\d d2
\d dv
\d dseq
\d d1_n
\d dsch.inner_t
\d nosuch
\d+ d2
\dt
\dt dsch.*
\dt+ nosuch
\di
\dv
\ds
\dn
\dp d1
\ddp
\du r56_x
\d d*
\dt d?
-- @differs: descriptions of built-in objects are not kept
\dT int4
\df abs
\dC nosuch
\do nosuch
-- @differs: descriptions of built-in objects are not kept
\dx
\sv dv
\dD
\db
\l corpus_nosuch
\encoding
select obj_description('d1'::regclass), col_description('d1'::regclass, 2), obj_description('d1'::regclass, 'pg_class');
comment on table d1 is null;
select obj_description('d1'::regclass);
comment on table nosuch is 'x';
comment on column d1.nosuch is 'x';
comment on column d1 is 'x';
comment on nosuch x is 'y';
comment on table d1 is 5;
comment on table d1;
drop table d1, d2 cascade;
drop role r56_x;
