-- System information and administration functions, catalogs.
select current_user = user, session_user = current_user, current_role = current_user, current_catalog = current_database(), current_schema;
select version() like 'PostgreSQL 15%', current_setting('server_version') like '15%', pg_backend_pid() > 0, pg_is_in_recovery();
select format_type(23, null), format_type(1043, 14), format_type(1700, 655366), format_type(1007, -1), format_type(0, null), format_type(999999, null);
create table sf (id int primary key, v text default 'x', constraint sf_c check (id > 0));
create view sfv as select id from sf;
select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = 'sf'::regclass;
select pg_get_constraintdef(oid), pg_get_constraintdef(oid, true) from pg_constraint where conrelid = 'sf'::regclass order by conname;
select pg_get_indexdef(indexrelid), pg_get_indexdef(indexrelid, 1, true), indisprimary, indisunique from pg_index where indrelid = 'sf'::regclass;
select pg_get_viewdef('sfv'), pg_get_viewdef('sfv', false);
select pg_get_userbyid(relowner), relkind, relnatts, relhasindex from pg_class where relname in ('sf', 'sfv') order by relname;
select pg_table_is_visible('sf'::regclass), pg_type_is_visible('int4'::regtype), pg_function_is_visible('upper(text)'::regprocedure);
select to_regclass('sf')::text, to_regtype('integer')::text, to_regnamespace('public')::text, to_regrole('nodedb') is not null, to_regproc('nosuch'), to_regprocedure('upper(text)')::text;
select has_table_privilege('sf', 'select'), has_schema_privilege('public', 'create'), has_database_privilege(current_database(), 'create'), has_any_column_privilege('sf', 'update'), has_column_privilege('sf', 'v', 'insert'), has_function_privilege('upper(text)', 'execute');
select pg_encoding_to_char(6), getdatabaseencoding(), pg_client_encoding(), pg_char_to_encoding('UTF8');
-- @simple (its binary form has an oid)
-- @differs: the row type of a table has no OID of its own: such a column is of type record
select pg_typeof(1), pg_typeof(null), pg_typeof(sf) from (select 1) q left join sf on true;
select pg_column_size(1::int4), pg_column_size(1::int8), pg_column_size('2024-01-01'::date), pg_size_pretty(10240::bigint), pg_size_pretty(123456789::numeric), pg_size_bytes('1 kB'), pg_size_bytes('1.5 MB');
select pg_relation_size('sf') >= 0, pg_total_relation_size('sf') >= 0, pg_table_size('sf') >= 0, pg_indexes_size('sf') >= 0, pg_database_size(current_database()) >= 0;
select typname, typlen, typbyval, typtype, typcategory, typdelim, typelem::regtype, typarray::regtype from pg_type where typname in ('bool', 'int4', 'text', '_int4', 'numeric', 'jsonb', 'uuid') order by typname;
select attname, atttypid::regtype, attnum, attnotnull, atthasdef from pg_attribute where attrelid = 'sf'::regclass and attnum > 0 order by attnum;
select conname, contype, conkey, condeferrable from pg_constraint where conrelid = 'sf'::regclass order by conname;
select schemaname, tablename, tableowner, hasindexes from pg_tables where schemaname = 'public' order by tablename;
select table_name, constraint_name, constraint_type from information_schema.table_constraints where table_name = 'sf' and constraint_type <> 'CHECK' order by 2;
select constraint_name, column_name, ordinal_position from information_schema.key_column_usage where table_name = 'sf';
-- @open: columns: [['column_name', 19, 64, -1], ['ordinal_position', 23, 4, -1], ['column_default', 1043, -1, -1], ['is_nullable', 1043, -1, 7], ['data_type', 
select column_name, ordinal_position, column_default, is_nullable, data_type, udt_name from information_schema.columns where table_name = 'sf' order by ordinal_position;
select table_catalog = current_database(), table_schema, table_name from information_schema.views where table_schema = 'public';
select catalog_name = current_database(), schema_name from information_schema.schemata where schema_name = 'public';
select count(*) > 50 from pg_class;
select oid, typname from pg_type where oid in (16, 20, 21, 23, 25, 700, 701, 1043, 1082, 1114, 1184, 1700, 2950, 3802) order by oid;
-- @open: tag: SELECT 2 | SELECT 1
select nspname from pg_namespace where oid in (11, 2200) order by oid;
select amname from pg_am where amname in ('btree', 'hash', 'heap') order by 1;
select proname, pronargs, prorettype::regtype from pg_proc where proname in ('upper', 'lower', 'now') and pronargs < 2 and prorettype not in ('anyelement'::regtype) order by 1, 3::text;
select datname from pg_database where datname in ('template1', 'corpus_59') order by 1;
select tablename, indexname from pg_indexes where schemaname = 'public';
select c.relname, n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relname = 'sf';
select datname, usename, state from pg_stat_activity where pid = pg_backend_pid();
-- @open: sqlstate: no error | 42883 function pg_postmaster_start_time() does not exist at 8
select pg_postmaster_start_time() < now(), hashtext('a') = hashtext('a');
select pg_sleep(0);
select pg_cancel_backend(0);
select pg_terminate_backend(0);
select pg_advisory_lock(1), pg_try_advisory_lock(2), pg_advisory_unlock(1), pg_advisory_unlock_all();
select pg_advisory_xact_lock(5), pg_try_advisory_xact_lock(6);
select md5('x'), pg_column_size('a'::text) > 0;
select txid_current() = txid_current(), pg_current_xact_id_if_assigned() is null or true;
-- @open: rows: [[None, None, None]] | [[None, 'default template for new databases', None]]
select shobj_description('nodedb'::regrole, 'pg_authid'), obj_description(1, 'pg_class'), col_description('sf'::regclass, 1);
select array_to_string(current_schemas(true), ',');
select pg_get_serial_sequence('sf', 'id'), pg_get_function_result('upper(text)'::regprocedure), pg_get_function_arguments('left(text, int)'::regprocedure), pg_get_function_identity_arguments('now()'::regprocedure);
select pg_get_keywords() is not null limit 1;
select row_to_json(q) from (select 1 as a, null as b) q;
select nosuch();
select pg_typeof();
select version(1);
select format_type('x', null);
select pg_get_viewdef('nosuch');
select pg_get_viewdef(0);
select pg_get_serial_sequence('nosuch', 'id');
select pg_get_serial_sequence('sf', 'nosuch');
select has_table_privilege('sf');
select has_database_privilege('x');
select pg_size_bytes('1 zB');
select pg_size_pretty('x');
select 'nosuch'::regclass::oid;
select 'no such'::regclass;
-- @open: sqlstate: 42725 more than one function named "upper" at 8 | no error
select 'upper'::regproc;
-- @open: position: '8' | None
select 'upper(nosuch)'::regprocedure;
-- @open: position: '8' | None
select 'nosuch'::regrole;
-- @open: position: '8' | None
select 'nosuch'::regnamespace;
select to_regclass(5);
select current_setting(5);
select pg_sleep('x');
select pg_advisory_lock('x');
select current_database(1);
select * from pg_nosuch;
select nosuch from pg_class;
select * from information_schema.nosuch;
create role r59_plain;
set role r59_plain;
insert into pg_namespace (nspname) values ('x');
delete from pg_class;
update pg_attribute set attname = 'x';
-- @open: message: 'must be owner of table pg_class' | 'permission denied: "pg_class" is a system catalog'
drop table pg_class;
create table pg_catalog.x (a int);
-- @open: message: 'must be owner of table pg_class' | 'permission denied: "pg_class" is a system catalog'
alter table pg_class add column x int;
truncate pg_class;
reset role;
drop role r59_plain;
select pg_catalog.nosuch();
select nosuch.upper('x');
select pg_catalog.upper('x'), pg_catalog.count(*) from sf;
drop table sf cascade;
