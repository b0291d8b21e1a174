package archive

// words holds what almost every commit holds, what is most frequent last. A short text has little in itself that repeats; with
// these to point at it takes half of what it takes without. Not a byte may ever change: see the package's comment.
const words = `"limiting_metric":"messages_per_second","limiting_metric":"requests_per_minute","limiting_metric":"tokens_per_minute","retry_at":"20
{"events":[{"type":"node_rate_limited.v1","at":"20","data":{"node":"","iteration":0,"queue":"","limiting_metric":"
{"events":[{"type":"cancel_requested.v1","at":"20","data":{"actor":"key_01","reason":"
{"type":"timed_out.v1","at":"20","data":{"scope":"execution","elapsed_ms":
{"type":"cancelled.v1","at":"20","data":{"actor":"key_01","reason":"
{"events":[{"type":"carried.v1","at":"20","data":{"requested":{
{"type":"failed.v1","at":"20","data":{"error":{"code":"NODE_FAILED","message":"","node":"","class":"timeout","class":"network","class":"429","class":"5xx","status":500,"retry_after_ms":
{"events":[{"type":"node_failed.v1","at":"20","data":{"node":"","iteration":0,"attempt":1,"error":{"code":"","message":"","node":"","class":""},"next_try_at":null,"handled":true,"next_try_at":"20
\"queues\":[{\"id\":\"\",\"from\":\"\",\"to\":\"\",\"bandwidth\":{\"max_messages_per_second\":10,\"max_requests_per_minute\":60,\"max_tokens_per_minute\":10000,\"burst_size\":
\"sources\":[{\"id\":\"\",\"kind\":\"llm\",\"config\":{\"provider\":\"openai\",\"model\":\"gpt-4o-mini\",\"api_key_env\":\"OPENAI_API_KEY\"}},{\"id\":\"\",\"kind\":\"api\",\"config\":{\"base_url\":\"https://
\"timeout_seconds\":30,\"retry\":{\"max_attempts\":3,\"initial_interval\":1,\"backoff\":2,\"max_interval\":
{\"id\":\"\",\"type\":\"db\",\"metadata\":{\"source_id\":\"\",\"query\":\"select
{\"id\":\"\",\"type\":\"image\",\"metadata\":{\"source_id\":\"\",\"prompt_template\":\"
{\"id\":\"\",\"type\":\"api\",\"metadata\":{\"source_id\":\"\",\"method\":\"GET\",\"endpoint\":\"/\",\"headers\":{\"
{\"id\":\"\",\"type\":\"llm\",\"metadata\":{\"source_id\":\"\",\"system_prompt\":\"\",\"temperature\":0.7,\"max_tokens\":1000,\"prompt_template\":\"
\"edges\":[{\"from\":\"\",\"to\":\"\",\"condition\":\"intent\"},{\"from\":\"\",\"to\":[\"\",\"\"]}]}",
{"events":[{"type":"requested.v1","at":"20","data":{"workflow_id":"wf_01","workflow_version":1,"workflow_name":"","spec_hash":"","spec":"{\"name\":\"\",\"description\":\"\",\"version\":\"1.0.0\",\"start_node\":\"\",\"nodes\":[{\"id\":\"\",\"type\":\"input\",\"metadata\":{\"validate\":{\"required\":true}}},{\"id\":\"\",\"type\":\"router\",\"metadata\":{\"strategy\":\"keyword\",\"default_intent\":\"\",\"routes\":[{\"intent\":\"\",\"keywords\":[\"\",\"\"]},{\"intent\":\"\",\"target_node\":\"\"}]}},{\"id\":\"\",\"type\":\"aggregator\",\"metadata\":{\"strategy\":\"merge\",\"source_keys\":[\"text_result\"],\"include_metadata\":false,\"strategy\":\"template\",\"template\":\"{user_input}\"}}],\"edges\":[{\"from\":\"\",\"to\":\"\"},{\"from\":\"\",\"to\":\"\"}]}","input":{"value":{"user_input":"
"},"deadline":"20","max_iterations":25,"actor":"key_01","actor":"anonymous","request_id":"req_01","tags":[""],"reply":"_INBOX.gateway."}}]}
"rerun_of":"exec_01
{"events":[{"type":"started.v1","at":"20","data":{"executor":"","delivery":1}},
"delta":{"value":{"api_result":{"data":{"headers":{"Content-Length":"","Content-Type":"application/json","Date":"
"},"status_code":200,"success":true}},"delta":{"value":{"text_result":"
","tokens_used":10,"cost":0.0}},"edges":[1],"tokens":10,"cost":"0.000
{"events":[{"type":"node_completed.v1","at":"20","data":{"node":"","iteration":0,"attempt":1,"delta":{"value":{"metadata":{"input_node_id":"","input_processed":true}}},"edges":[0],"started_at":"20
Z","duration_ms":0}},{"type":"node_completed.v1","at":"20","data":{"node":"","iteration":0,"attempt":1,"delta":{"value":{"intent":""}},"intent":"","edges":[1],"started_at":"20
Z","duration_ms":0}},{"type":"node_completed.v1","at":"20","data":{"node":"","iteration":0,"attempt":1,"delta":{"value":{"final_output":{"cost":0.0,"execution_path":["
"],"result":"","tokens_used":0}}},"edges":[],"started_at":"20
Z","duration_ms":0}},{"type":"completed.v1","at":"20
Z","data":{"state":{"value":{"api_result":{},"cost":0.0,"current_node":["","","
"],"db_result":[],"errors":[],"execution_path":["","","
"],"final_output":{"cost":0.0,"execution_path":["","
"],"result":"","tokens_used":0},"image_result":{},"intent":"","metadata":{"execution_id":"exec_01
","execution_time_ms":1,"input_node_id":"","input_processed":true},"outputs":{},"text_result":"","tokens_used":0,"user_input":"
"}},"totals":{"tokens_used":0,"cost":"0","nodes_run":3,"duration_ms":1}}}]}
`
