-- COPY in text and CSV, both ways.
create table cp (id int, v text, n numeric(6,2), d date);
copy cp from stdin;
1	one	1.50	2024-01-01
2	\N	\N	\N
3	tab\there	3	2024-02-29
\.
copy cp (id, v) from stdin with (format csv, header);
id,v
4,"quoted, ""comma"""
5,
6,""
\.
copy cp (id, v) from stdin (delimiter '|', null 'NULL');
7|x|
\.
copy cp (id, v) from stdin (delimiter '|', null 'NULL');
7|NULL
\.
copy cp to stdout;
copy cp to stdout (format csv, header true, force_quote (v));
copy cp (v, id) to stdout with csv null 'nil' quote '''';
copy (select id, n from cp where n is not null order by id) to stdout;
copy (select 1, 'a') to stdout (delimiter ',');
copy (values (1), (2)) to stdout;
copy (delete from cp where id > 5 returning id) to stdout;
select count(*) from cp;
copy cp from stdin;
x	y	z	w
\.
copy cp from stdin;
9
\.
copy cp from stdin;
9	a	1	2024-01-01	extra
\.
copy cp from stdin (format csv);
1,"unterminated
\.
copy cp from stdin;
1	a	99999	2024-01-01
\.
copy nosuch from stdin;
\.
copy cp (nosuch) from stdin;
\.
copy nosuch to stdout;
copy cp to stdout (format nosuch);
copy cp to stdout (nosuch 1);
copy cp to stdout (delimiter 'ab');
copy cp to stdout (format binary, delimiter ',');
copy cp to stdout (header, header);
copy cp to stdout (quote '"');
copy cp;
copy cp to;
copy to stdout;
copy (select nosuch) to stdout;
copy (select 1) from stdin;
\.
copy cp (id, id) to stdout;
drop table cp;
