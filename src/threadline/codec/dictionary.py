"""What our records look like: a dictionary for zstd, so that a payload of a hundred bytes compresses as well as one
that stands among its like. Stored bytes depend on it: it is never changed, only followed by another (`WORDS_2`, with
a format number of its own).
"""

from __future__ import annotations

#: Pieces of our JSON, the rarer first: zstd reaches the end of a dictionary with the shortest offsets.
WORDS_1 = (
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
