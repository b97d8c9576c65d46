/* A stand-in for libnvidia-ml.so.1 that answers from a scenario file (see __init__.py), for tests without a GPU.
 *
 * The file is named by NVML_STUB_SCENARIO. Lines are `key = value`; a key is `devices`, `0.name`, `*.name`, a pair
 * `0-1.p2p`, or a fault: `error FUNCTION`, `hang FUNCTION`, `crash FUNCTION`, `garbage FUNCTION`, `missing FUNCTION`,
 * where FUNCTION may be `3.FUNCTION`, `*.FUNCTION` or `3.*`.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 4096
#define API __attribute__((visibility("default")))
typedef unsigned int u32;
typedef unsigned long long u64;

static struct { char key[128]; char value[256]; } lines[MOST];
static int count = -1;

static char *strip(char *text) {
    while (*text == ' ' || *text == '\t') text++;
    size_t size = strlen(text);
    while (size && strchr(" \t\r\n", text[size - 1])) text[--size] = 0;
    return text;
}

static void load(void) {
    if (count >= 0) return;
    count = 0;
    const char *name = getenv("NVML_STUB_SCENARIO");
    FILE *file = name ? fopen(name, "r") : NULL;
    char line[512];
    while (file && count < MOST && fgets(line, sizeof line, file)) {
        char *text = strip(line);
        char *split = strchr(text, '=');
        if (!*text || *text == '#') continue;
        if (split) *split = 0;
        snprintf(lines[count].key, sizeof lines[count].key, "%s", strip(text));
        snprintf(lines[count].value, sizeof lines[count].value, "%s", split ? strip(split + 1) : "1");
        count++;
    }
    if (file) fclose(file);
}

static const char *find(const char *key) {
    load();
    for (int i = count - 1; i >= 0; i--)
        if (!strcmp(lines[i].key, key)) return lines[i].value;
    return NULL;
}

/* Handles: device N is N + 1; its MIG instance M is (N + 1) | (M + 1) << 16. */
typedef struct handle *device_t;
static int number_of(device_t device) { return (int)((uintptr_t)device & 0xffff) - 1; }
static int instance_of(device_t device) { return (int)((uintptr_t)device >> 16) - 1; }

static const char *of(int device, const char *key) {
    char full[160];
    snprintf(full, sizeof full, "%d.%s", device, key);
    const char *found = find(full);
    if (!found) {
        snprintf(full, sizeof full, "*.%s", key);
        found = find(full);
    }
    return found;
}

static u64 amount(const char *text, u64 otherwise) { return text ? strtoull(text, NULL, 0) : otherwise; }

static const char *fault(const char *kind, int device, const char *function) {
    char full[160];
    const char *found;
    snprintf(full, sizeof full, "%s %s", kind, function);
    if ((found = find(full))) return found;
    if (device < 0) return NULL;
    snprintf(full, sizeof full, "%s %d.%s", kind, device, function);
    if ((found = find(full))) return found;
    snprintf(full, sizeof full, "%s %d.*", kind, device);
    return find(full);
}

/* The code to answer with, or 0; does not come back from `hang` and `crash`. */
static int trouble(int device, const char *function) {
    const char *code;
    if (fault("hang", device, function)) for (;;) sleep(1000);
    if (fault("crash", device, function)) { *(volatile int *)8 = 1; }
    if (fault("missing", device, function)) return 13;
    if ((code = fault("error", device, function))) return atoi(code);
    return 0;
}

static int garbled(int device, const char *function) { return fault("garbage", device, function) != NULL; }

#define BEGIN(device) do { int code = trouble(device, __func__); if (code) return code; } while (0)
#define GARBAGE(device) garbled(device, __func__)
#define NUMBER(key, otherwise) do { \
    BEGIN(number_of(device)); \
    const char *text = of(number_of(device), key); \
    if (!text && (otherwise) < 0) return 3; \
    *value = GARBAGE(number_of(device)) ? 0xfffffff0u : (u32)amount(text, (u64)(otherwise)); \
    return 0; \
} while (0)

static int put(char *target, u32 size, const char *text, int garbage) {
    if (garbage) {
        memset(target, 0xfe, size - 1);
        target[size - 1] = 0;
        return 0;
    }
    if (strlen(text) >= size) return 7;
    strcpy(target, text);
    return 0;
}

API int nvmlInitWithFlags(u32 flags) { (void)flags; BEGIN(-1); return 0; }
API int nvmlInit_v2(void) { BEGIN(-1); return 0; }
API int nvmlShutdown(void) { return 0; }
API const char *nvmlErrorString(int code) { (void)code; return "an error of the stub"; }

API int nvmlSystemGetDriverVersion(char *target, u32 size) {
    BEGIN(-1);
    const char *text = find("driver");
    return put(target, size, text ? text : "570.86.15", GARBAGE(-1));
}

API int nvmlSystemGetCudaDriverVersion_v2(int *value) {
    BEGIN(-1);
    *value = GARBAGE(-1) ? -7 : (int)amount(find("cuda"), 12080);
    return 0;
}

API int nvmlDeviceGetCount_v2(u32 *value) {
    BEGIN(-1);
    *value = GARBAGE(-1) ? 0xfffffff0u : (u32)amount(find("devices"), 1);
    return 0;
}

API int nvmlDeviceGetHandleByIndex_v2(u32 index, device_t *device) {
    BEGIN((int)index);
    if (index >= amount(find("devices"), 1)) return 2;
    *device = (device_t)(uintptr_t)(index + 1);
    return 0;
}

/* The fields of instance M in `mig = 1g.10gb:11811160064, ...`: its profile and bytes. */
static int instance(device_t device, char *profile, u64 *bytes) {
    const char *text = of(number_of(device), "mig");
    int left = instance_of(device);
    while (text && *text) {
        while (*text == ' ') text++;
        size_t size = strcspn(text, ",");
        if (left-- == 0) {
            char item[64];
            snprintf(item, sizeof item, "%.*s", (int)(size < 63 ? size : 63), text);
            char *split = strchr(item, ':');
            *bytes = split ? strtoull(split + 1, NULL, 0) : 1ull << 33;
            if (split) *split = 0;
            snprintf(profile, 32, "%.31s", item);
            return 0;
        }
        text += size + (text[size] == ',');
    }
    return 6;
}

API int nvmlDeviceGetName(device_t device, char *target, u32 size) {
    BEGIN(number_of(device));
    const char *text = of(number_of(device), "name");
    char full[96], profile[32];
    u64 bytes;
    if (instance_of(device) >= 0 && !instance(device, profile, &bytes)) {
        snprintf(full, sizeof full, "%s MIG %s", text ? text : "NVIDIA A100-SXM4-80GB", profile);
        return put(target, size, full, GARBAGE(number_of(device)));
    }
    return put(target, size, text ? text : "NVIDIA H100 80GB HBM3", GARBAGE(number_of(device)));
}

API int nvmlDeviceGetUUID(device_t device, char *target, u32 size) {
    BEGIN(number_of(device));
    char full[64];
    int mig = instance_of(device) >= 0;
    snprintf(full, sizeof full, "%s-%08x-0000-4000-8000-%012x", mig ? "MIG" : "GPU", 0xa0 + number_of(device),
             mig ? instance_of(device) + 1 : 0);
    const char *text = mig ? NULL : of(number_of(device), "uuid");
    return put(target, size, text ? text : full, GARBAGE(number_of(device)));
}

API int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor) {
    BEGIN(number_of(device));
    const char *text = of(number_of(device), "capability");
    if (GARBAGE(number_of(device))) { *major = -3; *minor = 4000; return 0; }
    if (sscanf(text ? text : "9.0", "%d.%d", major, minor) != 2) return 999;
    return 0;
}

struct memory { u64 total, free, used; };

static int memory_of(device_t device, const char *function, u64 *total, u64 *used) {
    int code = trouble(number_of(device), function);
    char profile[32];
    if (code) return code;
    if (of(number_of(device), "shared")) return 3;
    *total = amount(of(number_of(device), "memory"), 85520809984ull);
    *used = amount(of(number_of(device), "used"), 0);
    if (instance_of(device) >= 0) { *used = 0; return instance(device, profile, total); }
    if (garbled(number_of(device), function)) { *total = ~0ull; *used = ~0ull - 1; }
    return 0;
}

API int nvmlDeviceGetMemoryInfo(device_t device, struct memory *memory) {
    int code = memory_of(device, __func__, &memory->total, &memory->used);
    memory->free = memory->total - memory->used;
    return code;
}

/* Processes: `0.processes = 4242:41943040000, 4343:0`, or with `compute`/`graphics` instead of `processes`. */
struct process { u32 pid; u64 used; u32 gpu_instance, compute_instance; };

static int processes(device_t device, const char *key, const char *function, u32 *size, struct process *target) {
    int code = trouble(number_of(device), function);
    const char *text = of(number_of(device), key);
    u32 known = 0;
    if (code) return code;
    if (garbled(number_of(device), function)) {
        if (!target) { *size = 0x7ffffff0u; return 7; }
        return 999;
    }
    for (const char *at = text; at && *at; known++) {
        at += strcspn(at, ",");
        if (*at == ',') at++;
    }
    if (!known) { *size = 0; return 0; }
    if (*size < known) { *size = known; return 7; }
    for (u32 i = 0; i < known; i++) {
        char *end;
        target[i].pid = (u32)strtoul(text, &end, 0);
        target[i].used = *end == ':' ? strtoull(end + 1, &end, 0) : ~0ull;
        target[i].gpu_instance = target[i].compute_instance = ~0u;
        text = *end == ',' ? end + 1 : end;
    }
    *size = known;
    return 0;
}

API int nvmlDeviceGetComputeRunningProcesses_v2(device_t device, u32 *size, struct process *target) {
    return processes(device, "processes", __func__, size, target);
}
API int nvmlDeviceGetGraphicsRunningProcesses_v2(device_t device, u32 *size, struct process *target) {
    return processes(device, "graphics", __func__, size, target);
}

API int nvmlDeviceGetEccMode(device_t device, u32 *current, u32 *pending) {
    BEGIN(number_of(device));
    const char *text = of(number_of(device), "ecc");
    if (text && !strcmp(text, "none")) return 3;
    *current = GARBAGE(number_of(device)) ? 77 : (u32)amount(text, 1);
    *pending = (u32)amount(of(number_of(device), "ecc_pending"), *current);
    return 0;
}

API int nvmlDeviceGetTotalEccErrors(device_t device, u32 type, u32 counter, u64 *value) {
    BEGIN(number_of(device));
    (void)type;
    *value = GARBAGE(number_of(device)) ? ~0ull : amount(of(number_of(device), counter ? "ecc_total" : "ecc_errors"), 0);
    return 0;
}

API int nvmlDeviceGetRetiredPages(device_t device, u32 cause, u32 *size, u64 *pages) {
    BEGIN(number_of(device));
    const char *text = of(number_of(device), "pages");
    u32 known = (u32)amount(text, 0);
    (void)cause;
    if (!text) return 3;
    if (*size < known || !pages) { *size = known; return known ? 7 : 0; }
    for (u32 i = 0; i < known; i++) pages[i] = 0x1000ull * i;
    *size = known;
    return 0;
}
API int nvmlDeviceGetRetiredPagesPendingStatus(device_t device, u32 *value) { NUMBER("pages_pending", of(number_of(device), "pages") ? 0 : -1); }

API int nvmlDeviceGetComputeMode(device_t device, u32 *value) { NUMBER("compute_mode", 0); }
API int nvmlDeviceGetPersistenceMode(device_t device, u32 *value) { NUMBER("persistence", 1); }
API int nvmlDeviceGetDisplayActive(device_t device, u32 *value) { NUMBER("display", 0); }
API int nvmlDeviceGetCurrPcieLinkGeneration(device_t device, u32 *value) { NUMBER("pcie_generation", 5); }
API int nvmlDeviceGetMaxPcieLinkGeneration(device_t device, u32 *value) { NUMBER("pcie_generation_max", 5); }
API int nvmlDeviceGetCurrPcieLinkWidth(device_t device, u32 *value) { NUMBER("pcie_width", 16); }
API int nvmlDeviceGetMaxPcieLinkWidth(device_t device, u32 *value) { NUMBER("pcie_width_max", 16); }

API int nvmlDeviceGetTemperature(device_t device, u32 sensor, u32 *value) { (void)sensor; NUMBER("temperature", 35); }

API int nvmlDeviceGetUtilizationRates(device_t device, u32 *rates) {
    BEGIN(number_of(device));
    rates[0] = GARBAGE(number_of(device)) ? 4000 : (u32)amount(of(number_of(device), "load"), 0);
    rates[1] = 0;
    return 0;
}

API int nvmlDeviceGetCurrentClocksThrottleReasons(device_t device, u64 *value) {
    BEGIN(number_of(device));
    *value = GARBAGE(number_of(device)) ? ~0ull : amount(of(number_of(device), "slowed"), 1);
    return 0;
}

struct pci { char legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; };

API int nvmlDeviceGetPciInfo_v3(device_t device, struct pci *pci) {
    BEGIN(number_of(device));
    memset(pci, GARBAGE(number_of(device)) ? 0xfe : 0, sizeof *pci);
    if (GARBAGE(number_of(device))) return 0;
    pci->bus = (u32)(0x10 + number_of(device));
    pci->id = 0x233010de;
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    return 0;
}

/* `0.links = 1 1 1 0`: a word per NVLink. */
API int nvmlDeviceGetNvLinkState(device_t device, u32 link, u32 *value) {
    BEGIN(number_of(device));
    const char *text = of(number_of(device), "links");
    if (GARBAGE(number_of(device))) { *value = 99; return 0; }
    if (!text) return 3;
    for (; link && *text; link--) {
        text += strcspn(text, " ");
        text += strspn(text, " ");
    }
    if (!*text) return 2;
    *value = *text == '1';
    return 0;
}

static const char *pair(device_t one, device_t other, const char *key) {
    char full[96];
    const char *found;
    snprintf(full, sizeof full, "%d-%d.%s", number_of(one), number_of(other), key);
    if ((found = find(full))) return found;
    snprintf(full, sizeof full, "*-*.%s", key);
    return find(full);
}

API int nvmlDeviceGetP2PStatus(device_t device, device_t other, u32 kind, u32 *value) {
    BEGIN(number_of(device));
    (void)kind;
    *value = GARBAGE(number_of(device)) ? 77 : (u32)amount(pair(device, other, "p2p"), 0);
    return 0;
}

API int nvmlDeviceGetTopologyCommonAncestor(device_t device, device_t other, u32 *value) {
    BEGIN(number_of(device));
    *value = GARBAGE(number_of(device)) ? 7777 : (u32)amount(pair(device, other, "level"), 10);
    return 0;
}

#ifndef OLD_DRIVER /* what drivers of before 2020 do not have */

struct memory_v2 { u32 version; u64 total, reserved, free, used; };

API int nvmlDeviceGetMemoryInfo_v2(device_t device, struct memory_v2 *memory) {
    if (memory->version != 0x02000028) return 25;
    int code = memory_of(device, __func__, &memory->total, &memory->used);
    memory->reserved = 0;
    memory->free = memory->total - memory->used;
    return code;
}

API int nvmlDeviceGetComputeRunningProcesses_v3(device_t device, u32 *size, struct process *target) {
    return processes(device, "processes", __func__, size, target);
}
API int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t device, u32 *size, struct process *target) {
    return processes(device, "graphics", __func__, size, target);
}

API int nvmlDeviceGetRemappedRows(device_t device, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *failed) {
    BEGIN(number_of(device));
    if (of(number_of(device), "pages")) return 3;
    *corrected = 0;
    *uncorrected = GARBAGE(number_of(device)) ? ~0u : (u32)amount(of(number_of(device), "rows"), 0);
    *pending = (u32)amount(of(number_of(device), "remap_pending"), 0);
    *failed = (u32)amount(of(number_of(device), "remap_failed"), 0);
    return 0;
}

/* `0.mig = 1g.10gb:11811160064, 3g.40gb:42949672960` (MIG on), or `0.mig = empty`; `0.mig_pending = 1`. */
API int nvmlDeviceGetMigMode(device_t device, u32 *current, u32 *pending) {
    BEGIN(number_of(device));
    const char *text = of(number_of(device), "mig");
    if (text && !strcmp(text, "none")) return 3;
    *current = GARBAGE(number_of(device)) ? 77 : text != NULL;
    *pending = (u32)amount(of(number_of(device), "mig_pending"), *current);
    return 0;
}

API int nvmlDeviceGetMaxMigDeviceCount(device_t device, u32 *value) { NUMBER("mig_most", 7); }

API int nvmlDeviceGetMigDeviceHandleByIndex(device_t device, u32 index, device_t *target) {
    BEGIN(number_of(device));
    device_t made = (device_t)((uintptr_t)device | (uintptr_t)(index + 1) << 16);
    char profile[32];
    u64 bytes;
    const char *text = of(number_of(device), "mig");
    if (!text || !strcmp(text, "empty") || instance(made, profile, &bytes)) return 6;
    *target = made;
    return 0;
}

API int nvmlGetExcludedDeviceCount(u32 *value) {
    BEGIN(-1);
    *value = (u32)amount(find("excluded"), 0);
    return 0;
}

struct fabric { u32 version; unsigned char cluster[16]; int status; u32 clique; unsigned char state; u32 health; };

API int nvmlDeviceGetGpuFabricInfoV(device_t device, struct fabric *fabric) {
    BEGIN(number_of(device));
    const char *text = of(number_of(device), "fabric");
    if (!text) return 3;
    fabric->state = GARBAGE(number_of(device)) ? 99 : (unsigned char)amount(text, 0);
    fabric->status = (int)amount(of(number_of(device), "fabric_status"), 0);
    return 0;
}

#endif
