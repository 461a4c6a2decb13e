"""What our records look like: a dictionary for zstd, so that a payload of a hundred bytes compresses as well as one
that stands among its like. Stored bytes depend on it: it is never changed, only followed by another (`WORDS_2`, with
a format number of its own).
"""

from __future__ import annotations

#: Pieces of the messages that LangGraph gives (msgpack), and of our JSON, the rarer first: zstd reaches the end of a
#: dictionary with the shortest offsets.
WORDS_1 = (
    b"\x05\x94\xbelangchain_core.messages.system\xadSystemMessage\x86\xa7content\xda"
    b"\x05\x94\xbclangchain_core.messages.tool\xabToolMessage\x89\xa7content\xda\xa4type\xa4tool\xa4name\xa2id\xd9$"
    b"\xactool_call_id\xa5call_\xa8artifact\xc0\xa6status\xa7success\xb3model_validate_json"
    b"\x05\x94\xbalangchain_core.messages.ai\xa9AIMessage\x89\xa7content\xa0\xb1additional_kwargs\x81\xa7refusal\xc0"
    b"\xb1response_metadata\x88\xabtoken_usage\x85\xb1completion_tokens\xadprompt_tokens\xcd\x03\xactotal_tokens\xcd\x04"
    b"\xb9completion_tokens_details\x84\xbaaccepted_prediction_tokens\x00\xacaudio_tokens\x00\xb0reasoning_tokens\x00"
    b"\xbarejected_prediction_tokens\x00\xb5prompt_tokens_details\x82\xacaudio_tokens\x00\xadcached_tokens\x00"
    b"\xaemodel_provider\xa6openai\xaamodel_name\xb2system_fingerprint\xa3fp_\xa2id\xa9chatcmpl-\xacservice_tier\xa7default"
    b"\xadfinish_reason\xa4stop\xaatool_calls\xa8logprobs\xc0\xa4type\xa2ai\xa4name\xc0\xa2id\xd9.lc_run--\xaatool_calls\x91"
    b"\x84\xa4name\xa4args\x81\xa5query\xa2id\xa5call_\xa4type\xa9tool_call\xb2invalid_tool_calls\x90\xaeusage_metadata\x85"
    b"\xacinput_tokens\xcd\x03\xadoutput_tokens\xactotal_tokens\xcd\x04\xb3input_token_details\x82\xa5audio\x00"
    b"\xaacache_read\x00\xb4output_token_details\x82\xa5audio\x00\xa9reasoning\x00\xb3model_validate_json"
    b"\x05\x94\xbalangchain_core.messages.ai\xa9AIMessage\x89\xa7content\xda\x01\xb1additional_kwargs\x80\xb1response_metadata"
    b"\x80\xa4type\xa2ai\xa4name\xc0\xa2id\xd9$\xaatool_calls\x90\xb2invalid_tool_calls\x90\xaeusage_metadata\xc0"
    b"\xb3model_validate_json,\xc8\x01\x05\x94\xbdlangchain_core.messages.human\xacHumanMessage\x86\xa7content\xda\x01"
    b"\xb1additional_kwargs\x80\xb1response_metadata\x80\xa4type\xa5human\xa4name\xc0\xa2id\xd9$\xb3model_validate_json"
    b'{"url":"https://example.com/","file_id":null,"index":0,"title":""}],"annotations":[{"url":"'
    b'{"type":"image","media":{"kind":"url","url":"https://"},"alt_text":""}{"type":"audio","media":{"kind":"data",'
    b'"data_base64":"","mime_type":"application/pdf"}{"type":"document","media":{"kind":"file_id","file_id":"file-'
    b'{"type":"reasoning","summary":"","details":["{"type":"data","mime_type":"image/png"{"type":"annotation","kind":'
    b'{"type":"error","message":"","code":"","data":{"$datetime":"2025-01-01T00:00:00+00:00"}{"$tuple":[{"$dict":[["'
    b'"is_error":true,"status":"failed"}]"delta":true,"reasoning":"","metadata":{"node":"","run_id":"","step":0},'
    b'"usages":{"completion_tokens":100,"prompt_tokens":1000,"total_tokens":1100,"reasoning_tokens":0},"raw":{"openai":{'
    b'"context_summary":"","interrupted_node":"","interrupt_reason":"","internal_data":{},"status":"interrupted"'
    b'{"name":"","metadata":{},"updated_at":null,"run_id":null,"stop_requested":false}'
    b'{"thread_id":"","namespace":"","version":1}{"s":"value","f":{"value":[1,0]}}{"s":"model","f":{{"s":"dataclass","f":{'
    b'{"s":"none","f":{}}{"s":"dict","f":{"messages":[3,1,0,2]"status":"error","status":"completed","args_text":"{}'
    b'","role":"system","content":[{"type":"text","text":"You are a helpful assistant. \\n\\n- '
    b'","tool_type":"function"},{"type":"tool_call","id":"call_"}],"timestamp":1760000000.123456}'
    b'","role":"assistant","content":[{"type":"tool_call","id":"call_","name":"get_","args":{"id":"","query":"","date":"2'
    b'","role":"tool","name":"","content":[{"type":"tool_result","call_id":"call_","output":"{\\"name\\": \\"", \\"id\\'
    b'{"current_node":"__start__","step":10,"status":"running"}'
    b'{"s":"agent","f":{"context":[3,1,0,10],"context_summary":[0,null],"execution_meta":[1,10]},"m":{"'
    b'{"message_id":"019a0000","role":"user","content":[{"type":"text","text":"I would like to '
    b'{"message_id":"01a00000","role":"assistant","content":[{"type":"text","text":"Thank you for '
    b'"}],"timestamp":null}"}],"timestamp":17'
)
