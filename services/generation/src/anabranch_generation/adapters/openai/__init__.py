"""Any server that speaks OpenAI's chat completions: trtllm-serve, NIM, vLLM, llama.cpp."""
