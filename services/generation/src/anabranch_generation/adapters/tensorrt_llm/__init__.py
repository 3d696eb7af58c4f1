"""TensorRT-LLM's LLM API in this process; needs the `tensorrt` extra and a GPU."""
