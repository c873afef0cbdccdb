"""What SQL from people may say on PostgreSQL: functions, types, operators, keywords. Default is no.

The functions are those of `storage.query_rules` that PostgreSQL has, and its own for times, JSON, arrays and text
search. Without those that run SQL in a text (query_to_xml, ts_stat), wait, lock, write, tell about the server or its
files, or make much of nothing (repeat, lpad, format, generate_series).
"""

from __future__ import annotations

_FUNCTIONS = """
    count sum avg min max string_agg array_agg bool_and bool_or every any_value bit_and bit_or mode
    percentile_cont percentile_disc stddev stddev_pop stddev_samp variance var_pop var_samp corr covar_pop covar_samp
    regr_slope regr_intercept regr_r2 regr_count
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value

    length char_length character_length octet_length bit_length lower upper initcap substr substring trim btrim ltrim
    rtrim replace translate overlay position strpos left right reverse concat concat_ws split_part starts_with ascii chr
    quote_literal to_hex encode decode md5 sha256 normalize unistr
    regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr string_to_array string_to_table

    abs round sign ceil ceiling floor trunc mod pow power sqrt cbrt exp ln log log10 pi random div gcd lcm width_bucket
    sin cos tan asin acos atan atan2 degrees radians

    coalesce nullif greatest least num_nulls num_nonnulls like overlaps

    date time timestamp timestamptz interval extract date_part date_trunc date_bin age now clock_timestamp
    statement_timestamp transaction_timestamp timezone to_timestamp to_date to_char to_number
    make_date make_interval make_time make_timestamp make_timestamptz justify_days justify_hours justify_interval
    current_date current_time current_timestamp localtime localtimestamp isfinite

    json_array_length jsonb_array_length json_typeof jsonb_typeof json_extract_path json_extract_path_text
    jsonb_extract_path jsonb_extract_path_text json_array_elements json_array_elements_text jsonb_array_elements
    jsonb_array_elements_text json_each json_each_text jsonb_each jsonb_each_text json_object_keys jsonb_object_keys
    json_agg jsonb_agg json_object_agg jsonb_object_agg json_build_array jsonb_build_array json_build_object
    jsonb_build_object to_json to_jsonb row_to_json json_strip_nulls jsonb_strip_nulls jsonb_pretty jsonb_set
    jsonb_exists jsonb_exists_any jsonb_exists_all jsonb_contains jsonb_contained
    jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first
    json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize json_value

    array_append array_cat array_length array_position array_positions array_prepend array_remove array_to_string
    array_upper array_lower cardinality unnest

    to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd ts_headline
    tsvector_to_array numnode
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())

_TYPES = """
    bool int2 int4 int8 float4 float8 numeric text varchar bpchar char name bytea bit varbit uuid date time timetz
    timestamp timestamptz interval json jsonb jsonpath tsvector tsquery point line lseg box path polygon circle
    record unknown
"""
TYPES = frozenset(_TYPES.split())

_OPERATORS = """
    + - * / % ^ |/ ||/ @ & | # ~ << >> = <> != < > <= >= => || ~* !~ !~* ~~ !~~ ~~* !~~* ^@ -> ->> #> #>> #- @> <@
    && @@
"""
OPERATORS = frozenset(_OPERATORS.split())

_KEYWORDS = """
    all and any array as asc asymmetric both case cast collate cross current_date current_time current_timestamp
    desc distinct else end except false fetch for from full group having ilike in inner intersect is isnull join
    lateral leading left like limit localtime localtimestamp natural not notnull null offset on only or order outer
    overlaps placing right select similar some symmetric table then to trailing true union using when where window
    with between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping int
    integer interval json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar
    json_serialize json_value least none normalize nullif numeric overlay position precision real row smallint
    substring time timestamp trim values varchar
"""
KEYWORDS = frozenset(_KEYWORDS.split())
"""Of the words that PostgreSQL reserves, or keeps from being names of functions or types."""

_BEFORE_PARENTHESIS = """
    all and any array as asymmetric between by case cast char character cross cube dec decimal distinct else escape
    except exists fetch filter first float from group grouping having ilike in intersect join lateral like limit
    materialized next not numeric offset on only or over partition placing range rollup row rows select sets similar
    some symmetric then to union using values varchar varying when where window with within zone bit
"""
BEFORE_PARENTHESIS = frozenset(_BEFORE_PARENTHESIS.split())
"""Words behind which a parenthesis is no call of a function."""

WRITES = frozenset({"insert", "update", "delete", "merge"})
LOCKS = frozenset({"update", "no", "key", "share"})
"""Behind FOR."""

_EXPLAIN_OPTIONS = """
    analyze verbose costs buffers timing summary format text json yaml xml on off true false
"""
EXPLAIN_OPTIONS = frozenset(_EXPLAIN_OPTIONS.split())
