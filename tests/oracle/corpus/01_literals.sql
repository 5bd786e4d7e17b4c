-- Constants and how they are typed.
select 1, -1, +1;
select 2147483647 as int4_max, 2147483648 as int8_min_literal, -2147483648 as wraps;
select 9223372036854775807, 9223372036854775808;
select 1.5, .5, 5., 1e3, 1.5e-3, 1E+2;
select true, false, null, TRUE, NULL;
select 'text', '', 'it''s', 'é€😀';
select 'two'
  ' parts';
select E'tab\tnewline\nquote\'back\\slash';
select e'\x41\u00e9\U0001F600\101';
select U&'d\0061t\+000061', U&'d!0061t' uescape '!';
select $$dollar 'quoted'$$, $tag$with $$ inside$tag$;
-- @differs: type bit and bit string constants are not supported
select b'1010', x'1F';
select date '2024-02-29', time '12:34:56', timestamp '2024-02-29 12:34:56';
select interval '1 day', interval '1' year, interval '2:30' hour to minute;
select int '5', float8 '1e10', bool 'yes', numeric(5,2) '1.239';
select array[1,2,3], array['a','b'], array[]::int[];
select row(1,'a',null), (1,2), row();
select 1 as "Quoted Name", 2 as select_, 3 as CaseFolded;
select 1 "a""b", 2 é;
select 1 value, 2 name, 3 type, 4 text;
select /* comment /* nested */ still */ 1 -- and the rest
;
select current_date = current_date as today, localtime is not null as t;
select 'a'::text, cast('1' as int), int4('7'), text 'x';
select -2::int4, (-2)::int2, - 3;
select 0x1;
select 1a;
select 1 from;
select 'open;
';
select 'unterminated;
select E'\u00';
select E'\xZZ';
select U&'\00';
select U&'\zzzz';
select U&'a' uescape '+';
select "";
select 1e;
select 12345678901234567890123456789012345678901234567890;
select bool 'maybe';
select int '1.5';
select date '2024-02-30';
select interval '1 bogus';
select numeric '1..2';
select float8 'one';
select uuid 'abc';
select json '{bad}';
select unknown_type '5';
select array[1,'a'];
select array[];
select row(1,2).a;
-- @differs: type bit and bit string constants are not supported
select x'G';
-- @differs: type bit and bit string constants are not supported
select b'12';
select 1 as select;
select 1 as 2;
select @;
select 1 ||;
select;
;
