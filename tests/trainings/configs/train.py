"""A training script as people write them: arguments as literals, a model, an adapter."""

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

MODEL = "./model"
LEARNING_RATE = 2e-4

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
data = load_dataset("json", data_files={"train": "train.jsonl", "test": "test.jsonl"})

args = SFTConfig(
    output_dir="out",
    learning_rate=LEARNING_RATE,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    num_train_epochs=2,
    max_length=256,
    bf16=True,
    eval_strategy="steps",
    eval_steps=10,
    save_steps=20,
    logging_steps=5,
    report_to="none",
)
adapter = LoraConfig(
    r=16,
    lora_alpha=32,
    lora_dropout=0.05,
    target_modules=["q_proj", "v_proj"],
    task_type="CAUSAL_LM",
)

trainer = SFTTrainer(
    model=model,
    args=args,
    train_dataset=data["train"],
    eval_dataset=data["test"],
    processing_class=tokenizer,
    peft_config=adapter,
)
trainer.train()
