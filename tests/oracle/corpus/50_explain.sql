-- EXPLAIN: options and errors; plans differ by nature, so only counts and shapes are asked.
create table ex (id int primary key, v text);
explain (nosuch) select 1;
explain (format yamlx) select 1;
-- @open: sqlstate: 42601 format requires a parameter at None | 22023 unrecognized value for EXPLAIN option "format": "None" at 10
explain (format) select 1;
explain (analyze maybe) select 1;
explain (timing) select 1;
explain (wal) select 1;
explain select nosuch;
explain select * from nosuch;
-- @open: message: 'syntax error at or near "int"' | 'syntax error at or near "table"'
explain create table x (a int);
explain begin;
explain;
explain analyze;
explain (verbose, costs off;
explain (verbose costs) select 1;
explain () select 1;
explain select 1 from ex where v;
explain insert into ex values (1, 2, 3);
explain update ex set nosuch = 1;
explain delete from nosuch;
explain execute nosuch;
explain (analyze 2) select 1;
explain (buffers) insert into ex (nosuch) values (1);
explain explain select 1;
explain analyze verbose nosuch;
explain (analyze, timing off, summary off, costs off) insert into ex (id) values ('x');
select count(*) from ex;
drop table ex;
