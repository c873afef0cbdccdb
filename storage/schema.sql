CREATE TABLE hub_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT hub_schema_pkc PRIMARY KEY (version_num)
);
CREATE TABLE hub_events (
	position INTEGER NOT NULL, 
	event_id TEXT NOT NULL, 
	stream_id TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	call_id TEXT, 
	type TEXT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	level TEXT NOT NULL, 
	occurred_ns BIGINT NOT NULL, 
	recorded_ns BIGINT NOT NULL, 
	project TEXT NOT NULL, 
	environment TEXT, 
	service TEXT NOT NULL, 
	session_id TEXT, 
	user_id TEXT, 
	tags TEXT, 
	trace_id TEXT, 
	span_id TEXT, 
	parent_span_id TEXT, 
	trace_flags INTEGER, 
	tracestate TEXT, 
	parent_is_remote SMALLINT, 
	causation_id TEXT, 
	producer TEXT NOT NULL, 
	producer_seq BIGINT NOT NULL, 
	data TEXT NOT NULL, 
	content TEXT, 
	PRIMARY KEY (position), 
	CONSTRAINT uq_hub_events_stream_id_version UNIQUE (stream_id, version)
);
CREATE INDEX ix_hub_events_call_id ON hub_events (call_id);
CREATE INDEX ix_hub_events_contributed ON hub_events (type, position) WHERE type NOT IN ('llm:request','llm:request:debug','llm:response','llm:response:debug');
CREATE TABLE hub_contents (
	id INTEGER NOT NULL, 
	project TEXT NOT NULL, 
	hash BLOB NOT NULL, 
	body TEXT, 
	packed BLOB, 
	bytes INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_hub_contents_hash UNIQUE (hash)
);
CREATE TABLE hub_parts (
	content_id BIGINT NOT NULL, 
	part INTEGER NOT NULL, 
	role TEXT, 
	type TEXT NOT NULL, 
	name TEXT, 
	tool_call_id TEXT, 
	path TEXT, 
	bytes INTEGER, 
	PRIMARY KEY (content_id, part)
)
 WITHOUT ROWID;
CREATE TABLE hub_attempts (
	position INTEGER NOT NULL, 
	call_id TEXT NOT NULL, 
	attempt BIGINT NOT NULL, 
	started_ns BIGINT, 
	duration_ms DOUBLE, 
	provider TEXT, 
	model TEXT, 
	status_code BIGINT, 
	error_type TEXT, 
	delay_ms DOUBLE, 
	input_tokens BIGINT, 
	output_tokens BIGINT, 
	cost_nanos BIGINT, is_last SMALLINT, 
	PRIMARY KEY (position)
);
CREATE INDEX ix_hub_attempts_call_id ON hub_attempts (call_id);
CREATE TABLE hub_tool_calls (
	call_id TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	content_id BIGINT NOT NULL, 
	part INTEGER NOT NULL, 
	PRIMARY KEY (call_id, position)
)
 WITHOUT ROWID;
CREATE TABLE hub_tool_results (
	tool_call_id TEXT NOT NULL, 
	project TEXT NOT NULL, 
	session TEXT NOT NULL, 
	content_id BIGINT NOT NULL, 
	part INTEGER NOT NULL, 
	call_id TEXT NOT NULL, 
	PRIMARY KEY (tool_call_id, project, session, content_id, part)
)
 WITHOUT ROWID;
CREATE TABLE hub_event_schemas (
	type TEXT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	fields TEXT NOT NULL, 
	"view" TEXT NOT NULL, 
	PRIMARY KEY (type, schema_version)
);
CREATE TABLE hub_calls (
	call_id TEXT NOT NULL, 
	project TEXT NOT NULL, 
	environment TEXT, 
	service TEXT, 
	producer TEXT, 
	session_id TEXT, 
	user_id TEXT, 
	trace_id TEXT, 
	span_id TEXT, 
	parent_span_id TEXT, 
	provider TEXT, 
	operation TEXT, 
	request_model TEXT, 
	response_model TEXT, 
	tier TEXT, 
	response_id TEXT, 
	server_address TEXT, 
	status TEXT NOT NULL, 
	status_code BIGINT, 
	error_type TEXT, 
	error_message TEXT, 
	finish_reason TEXT, 
	stream SMALLINT, 
	started_at TEXT, 
	started_ns BIGINT, 
	ended_at TEXT, 
	ended_ns BIGINT, 
	duration_ms DOUBLE, 
	duration_le DOUBLE, 
	ttft_ms DOUBLE, 
	ttft_le DOUBLE, 
	chunk_count BIGINT, 
	attempts BIGINT, 
	continuation_count BIGINT, 
	message_count BIGINT, 
	has_system SMALLINT, 
	tool_count BIGINT, 
	params TEXT, 
	input_tokens BIGINT, 
	output_tokens BIGINT, 
	cache_read_tokens BIGINT, 
	cache_write_tokens BIGINT, 
	reasoning_tokens BIGINT, 
	cost_nanos BIGINT, 
	cost_source TEXT, 
	price_version TEXT, 
	response_cached SMALLINT, 
	counted SMALLINT NOT NULL, 
	capture TEXT, 
	request_summary TEXT, 
	response_summary TEXT, 
	tags TEXT, 
	source TEXT, 
	replay_of TEXT, 
	replay_run TEXT, 
	request_version INTEGER, 
	response_version INTEGER, 
	failed_attempts INTEGER NOT NULL, 
	attempt_ns BIGINT, 
	input_parts INTEGER NOT NULL, 
	output_parts INTEGER NOT NULL, 
	PRIMARY KEY (call_id)
);
CREATE INDEX ix_hub_calls_open ON hub_calls (producer) WHERE status = 'running';
CREATE INDEX ix_hub_calls_request_model_started_at ON hub_calls (request_model, started_at);
CREATE INDEX ix_hub_calls_response_id_ended_ns ON hub_calls (response_id, ended_ns) WHERE response_id IS NOT NULL;
CREATE INDEX ix_hub_calls_session_id ON hub_calls (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX ix_hub_calls_started_at ON hub_calls (started_at);
CREATE TABLE hub_models (
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	display_name TEXT, 
	context_window BIGINT, 
	max_output_tokens BIGINT, 
	input DOUBLE, 
	output DOUBLE, 
	cache_read DOUBLE, 
	cache_write DOUBLE, 
	cost_tier TEXT, 
	capabilities TEXT, 
	metadata TEXT, 
	seen_ns BIGINT, 
	PRIMARY KEY (provider, model)
);
CREATE TABLE hub_keys (
	project TEXT NOT NULL, 
	"key" BLOB NOT NULL, 
	PRIMARY KEY (project)
);
CREATE TABLE hub_tombstones (
	id INTEGER NOT NULL, 
	project TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	hash BLOB NOT NULL, 
	before_ns BIGINT NOT NULL, 
	created_ns BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_hub_tombstones_project_kind_hash UNIQUE (project, kind, hash)
);
CREATE TABLE hub_checkpoints (
	name TEXT NOT NULL, 
	reached TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE hub_counters (
	name TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE hub_sequences (
	id INTEGER NOT NULL, 
	hash BLOB NOT NULL, 
	items TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_hub_sequences_hash UNIQUE (hash)
);
CREATE TABLE "hub_prices" (
	id INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	effective_ns BIGINT NOT NULL, 
	source TEXT NOT NULL, 
	version TEXT NOT NULL, 
	card TEXT, 
	made_ns BIGINT, 
	PRIMARY KEY (id)
);
CREATE TABLE hub_costs_hourly (
	hour TEXT NOT NULL, 
	project TEXT NOT NULL, 
	service TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	calls BIGINT DEFAULT '0' NOT NULL, 
	errors BIGINT DEFAULT '0' NOT NULL, 
	unpriced_calls BIGINT DEFAULT '0' NOT NULL, 
	priced_calls BIGINT DEFAULT '0' NOT NULL, 
	cost_nanos BIGINT DEFAULT '0' NOT NULL, 
	input_calls BIGINT DEFAULT '0' NOT NULL, 
	input_tokens BIGINT DEFAULT '0' NOT NULL, 
	output_calls BIGINT DEFAULT '0' NOT NULL, 
	output_tokens BIGINT DEFAULT '0' NOT NULL, 
	cache_read_calls BIGINT DEFAULT '0' NOT NULL, 
	cache_read_tokens BIGINT DEFAULT '0' NOT NULL, 
	cache_write_calls BIGINT DEFAULT '0' NOT NULL, 
	cache_write_tokens BIGINT DEFAULT '0' NOT NULL, 
	reasoning_calls BIGINT DEFAULT '0' NOT NULL, 
	reasoning_tokens BIGINT DEFAULT '0' NOT NULL, 
	kept_calls BIGINT DEFAULT '0' NOT NULL, 
	kept_errors BIGINT DEFAULT '0' NOT NULL, 
	kept_unpriced_calls BIGINT DEFAULT '0' NOT NULL, 
	kept_priced_calls BIGINT DEFAULT '0' NOT NULL, 
	kept_cost_nanos BIGINT DEFAULT '0' NOT NULL, 
	kept_input_calls BIGINT DEFAULT '0' NOT NULL, 
	kept_input_tokens BIGINT DEFAULT '0' NOT NULL, 
	kept_output_calls BIGINT DEFAULT '0' NOT NULL, 
	kept_output_tokens BIGINT DEFAULT '0' NOT NULL, 
	kept_cache_read_calls BIGINT DEFAULT '0' NOT NULL, 
	kept_cache_read_tokens BIGINT DEFAULT '0' NOT NULL, 
	kept_cache_write_calls BIGINT DEFAULT '0' NOT NULL, 
	kept_cache_write_tokens BIGINT DEFAULT '0' NOT NULL, 
	kept_reasoning_calls BIGINT DEFAULT '0' NOT NULL, 
	kept_reasoning_tokens BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (hour, project, service, provider, model)
)
 WITHOUT ROWID;
CREATE TABLE hub_latency_hourly (
	hour TEXT NOT NULL, 
	project TEXT NOT NULL, 
	service TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	metric TEXT NOT NULL, 
	le DOUBLE NOT NULL, 
	calls BIGINT DEFAULT '0' NOT NULL, 
	kept_calls BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (hour, project, service, provider, model, metric, le)
)
 WITHOUT ROWID;
CREATE INDEX ix_hub_calls_repeated ON hub_calls (call_id) WHERE counted = 0;
CREATE INDEX ix_hub_events_spans ON hub_events (trace_id) WHERE type = 'otel:span';
