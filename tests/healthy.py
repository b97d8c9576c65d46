"""Ordinary logs of healthy runs, written for the tests: no rule may see a failure in them."""

HEALTHY = {
    "vllm serving": """\
INFO 11-02 09:14:02 [api_server.py:1896] vLLM API server version 0.11.0
INFO 11-02 09:14:02 [utils.py:233] non-default args: {'model_tag': 'Qwen/Qwen3-8B', 'max_model_len': 8192, 'gpu_memory_utilization': 0.9}
INFO 11-02 09:14:09 [model.py:547] Resolved architecture: Qwen3ForCausalLM
INFO 11-02 09:14:09 [model.py:1510] Using max model len 8192
INFO 11-02 09:14:09 [scheduler.py:205] Chunked prefill is enabled with max_num_batched_tokens=2048.
(EngineCore_DP0 pid=41) INFO 11-02 09:14:20 [core.py:77] Initializing a V1 LLM engine (v0.11.0) with config: model='Qwen/Qwen3-8B', dtype=torch.bfloat16, max_seq_len=8192
(EngineCore_DP0 pid=41) INFO 11-02 09:14:22 [parallel_state.py:1208] rank 0 in world size 1 is assigned as DP rank 0, PP rank 0, TP rank 0, EP rank 0
(EngineCore_DP0 pid=41) INFO 11-02 09:14:23 [cuda.py:366] Using Flash Attention backend on V1 engine.
(EngineCore_DP0 pid=41) INFO 11-02 09:14:51 [gpu_model_runner.py:2653] Model loading took 15.2683 GiB and 6.551893 seconds
(EngineCore_DP0 pid=41) INFO 11-02 09:15:02 [backends.py:548] Using cache directory: /root/.cache/vllm/torch_compile_cache/0a1b2c/rank_0_0/backbone for vLLM's torch.compile
(EngineCore_DP0 pid=41) INFO 11-02 09:15:30 [monitor.py:34] torch.compile takes 27.12 s in total
(EngineCore_DP0 pid=41) INFO 11-02 09:15:31 [gpu_worker.py:298] Available KV cache memory: 54.19 GiB
(EngineCore_DP0 pid=41) INFO 11-02 09:15:31 [kv_cache_utils.py:1087] GPU KV cache size: 394,528 tokens
(EngineCore_DP0 pid=41) INFO 11-02 09:15:31 [kv_cache_utils.py:1091] Maximum concurrency for 8,192 tokens per request: 48.16x
Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%|##########| 67/67 [00:03<00:00, 19.80it/s]
(APIServer pid=1) INFO:     Started server process [1]
(APIServer pid=1) INFO:     Application startup complete.
(APIServer pid=1) INFO:     10.0.0.5:51002 - "POST /v1/chat/completions HTTP/1.1" 200 OK
(APIServer pid=1) INFO 11-02 09:16:10 [loggers.py:127] Engine 000: Avg prompt throughput: 41.2 tokens/s, Avg generation throughput: 96.3 tokens/s, Running: 2 reqs, Waiting: 0 reqs, GPU KV cache usage: 0.4%, Prefix cache hit rate: 12.0%
""",
    "sglang serving": """\
[2025-11-02 09:14:02] server_args=ServerArgs(model_path='Qwen/Qwen3-8B', tokenizer_mode='auto', tp_size=2, mem_fraction_static=0.87, attention_backend=None)
[2025-11-02 09:14:20 TP0] Init torch distributed begin.
[2025-11-02 09:14:22 TP0] sglang is using nccl==2.27.3
[2025-11-02 09:14:23 TP0] Init torch distributed ends. mem usage=1.02 GB
[2025-11-02 09:14:24 TP0] Load weight begin. avail mem=77.66 GB
Loading safetensors checkpoint shards: 100% Completed | 5/5 [00:03<00:00,  1.51it/s]
[2025-11-02 09:14:30 TP0] Load weight end. type=Qwen3ForCausalLM, dtype=torch.bfloat16, avail mem=69.98 GB, mem usage=7.68 GB.
[2025-11-02 09:14:30 TP0] KV Cache is allocated. #tokens: 846042, K size: 29.05 GB, V size: 29.05 GB
[2025-11-02 09:14:31 TP0] Capture cuda graph begin. This can take up to several minutes. avail mem=10.41 GB
[2025-11-02 09:14:40 TP0] Capture cuda graph end. Time elapsed: 9.21 s. mem usage=1.09 GB. avail mem=9.32 GB.
[2025-11-02 09:14:41 TP0] max_total_num_tokens=846042, chunked_prefill_size=8192, max_prefill_tokens=16384, max_running_requests=4096, context_len=40960
[2025-11-02 09:14:42] INFO:     Uvicorn running on http://127.0.0.1:30000 (Press CTRL+C to quit)
[2025-11-02 09:14:43 TP0] Prefill batch. #new-seq: 1, #new-token: 6, #cached-token: 0, token usage: 0.00, #running-req: 0, #queue-req: 0
[2025-11-02 09:14:45] The server is fired up and ready to roll!
[2025-11-02 09:14:50 TP0] Decode batch. #running-req: 1, #token: 64, token usage: 0.00, cuda graph: True, gen throughput (token/s): 131.20, #queue-req: 0
""",
    "llama.cpp server": """\
ggml_cuda_init: GGML_CUDA_FORCE_MMQ:    no
ggml_cuda_init: GGML_CUDA_FORCE_CUBLAS: no
ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9, VMM: yes
build: 6910 (0a1b2c3d) with cc (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0 for x86_64-linux-gnu
main: loading model
srv    load_model: loading model 'qwen3-8b-q4_k_m.gguf'
llama_model_loader: loaded meta data with 28 key-value pairs and 399 tensors from qwen3-8b-q4_k_m.gguf (version GGUF V3 (latest))
llama_model_loader: - kv   0:                       general.architecture str              = qwen3
llama_model_loader: - kv  26:                    tokenizer.chat_template str              = {%- if tools %}...
print_info: file format = GGUF V3 (latest)
load: special tokens cache size = 26
load_tensors: offloaded 37/37 layers to GPU
load_tensors:        CUDA0 model buffer size =  4455.34 MiB
llama_context: n_ctx         = 4096
llama_context: n_ctx_per_seq (4096) < n_ctx_train (40960) -- the full capacity of the model will not be utilized
llama_kv_cache: size =  576.00 MiB (  4096 cells,  36 layers,  1/1 seqs), K (f16):  288.00 MiB, V (f16):  288.00 MiB
common_init_from_params: warming up the model with an empty run - please wait ... (--no-warmup to disable)
main: server is listening on http://127.0.0.1:8080 - starting the main loop
srv  log_server_r: request: POST /v1/chat/completions 127.0.0.1 200
slot      release: id  0 | task 0 | stop processing: n_past = 53, truncated = 0
""",
    "training with the Trainer": """\
Loading checkpoint shards: 100%|██████████| 4/4 [00:02<00:00,  1.64it/s]
trainable params: 20,971,520 || all params: 8,051,232,768 || trainable%: 0.2605
***** Running training *****
  Num examples = 12,000
  Num Epochs = 3
  Instantaneous batch size per device = 4
  Gradient Accumulation steps = 4
  Total optimization steps = 2,250
  0%|          | 0/2250 [00:00<?, ?it/s]
{'loss': 1.8421, 'grad_norm': 0.7312, 'learning_rate': 9.95e-05, 'epoch': 0.01}
{'loss': 1.6112, 'grad_norm': 0.6604, 'learning_rate': 9.91e-05, 'epoch': 0.03}
Saving model checkpoint to out/checkpoint-500
Special tokens file saved in out/checkpoint-500/special_tokens_map.json
{'eval_loss': 1.4021, 'eval_runtime': 61.2, 'eval_samples_per_second': 16.3, 'epoch': 1.0}
Training completed. Do not forget to share your model on huggingface.co/models =)
{'train_runtime': 8123.4, 'train_samples_per_second': 4.43, 'train_loss': 1.2718, 'epoch': 3.0}
""",
    "torchrun with NCCL and DeepSpeed": """\
[2025-11-02 09:14:02,871] [INFO] [real_accelerator.py:239:get_accelerator] Setting ds_accelerator to cuda (auto detect)
W1102 09:14:03.118000 1201 torch/distributed/run.py:774] Setting OMP_NUM_THREADS environment variable for each process to be 1 in default
node7:1301:1301 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.7<0>
node7:1301:1301 [0] NCCL INFO NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin.
node7:1301:1422 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [RO]; OOB eth0:10.0.0.7<0>
node7:1301:1422 [0] NCCL INFO Channel 00/08 :    0   1   2   3   4   5   6   7
node7:1301:1422 [0] NCCL INFO ncclCommInitRank comm 0x55d0 rank 0 nranks 8 cudaDev 0 nvmlDev 0 busId 1b000 commId 0x1 - Init COMPLETE
[2025-11-02 09:14:20,001] [INFO] [logging.py:107:log_dist] [Rank 0] DeepSpeed info: version=0.18.0, git-hash=unknown, git-branch=unknown
[2025-11-02 09:14:31,402] [INFO] [stage3.py:184:__init__] Reduce bucket size 500000000
[2025-11-02 09:15:01,412] [INFO] [logging.py:107:log_dist] [Rank 0] step=10, skipped=0, lr=[1e-05], mom=[(0.9, 0.95)]
steps: 10 loss: 2.1712 iter time (s): 3.121 samples/sec: 20.505
""",
    "pip and a build": """\
Collecting vllm==0.11.0
  Downloading vllm-0.11.0-cp38-abi3-manylinux1_x86_64.whl (438.2 MB)
Requirement already satisfied: numpy in ./lib/python3.12/site-packages (from vllm==0.11.0) (2.2.6)
Installing collected packages: torch, vllm
Successfully installed torch-2.8.0 vllm-0.11.0
-- The CXX compiler identification is GNU 13.3.0
-- Detecting CXX compiler ABI info - done
-- Performing Test CMAKE_HAVE_LIBC_PTHREAD - Success
-- Could NOT find OpenSSL, try to set the path to OpenSSL root folder in the system variable OPENSSL_ROOT_DIR (missing: OPENSSL_CRYPTO_LIBRARY)
-- Found CUDAToolkit: /usr/local/cuda/targets/x86_64-linux/include (found version "12.8.93")
-- Configuring done (3.1s)
[ 12%] Building CXX object src/CMakeFiles/llama.dir/llama-context.cpp.o
/src/llama.cpp/src/llama-context.cpp:41:9: warning: unused variable 'x' [-Wunused-variable]
[100%] Built target llama-server
""",
    "kernel": """\
[    0.000000] Linux version 6.8.0-60-generic (buildd@lcy02-amd64-054) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.3.0) 13.3.0)
[    1.204412] nvidia: module license 'NVIDIA' taints kernel.
[    1.204490] nvidia-nvlink: Nvlink Core is being initialized, major device number 511
[    2.871120] NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb 26 02:06:46 UTC 2025
[    9.112001] nvidia-uvm: Loaded the UVM driver, major device number 509.
[   14.002215] docker0: port 1(veth1a2b) entered forwarding state
[ 1204.771002] perf: interrupt took too long (2501 > 2500), lowering kernel.perf_event_max_sample_rate to 79750
""",
    "a user's notes": """\
# Deploying Qwen3
If you see an out of memory message, lower `--max-model-len`. Errors while loading usually mean an old transformers.
See the troubleshooting guide for "CUDA error" and "Killed".
| setting | default |
|---|---|
| `--gpu-memory-utilization` | 0.9 |
""",
}
