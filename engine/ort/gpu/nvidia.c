#include "nvidia.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

// Functions of cuda.h (driver API) and nvml.h. Both interfaces promise that a
// name keeps its meaning; those with a suffix replaced older ones.
typedef struct {
	int (*init)(unsigned);
	int (*version)(int *);
	int (*count)(int *);
	int (*get)(int *, int);
	int (*name)(char *, int, int);
	int (*bus)(char *, int, int);
	int (*attribute)(int *, int, int);
	int (*total)(size_t *, int);
	int (*explain)(int, const char **);
} cuda_api;

typedef struct {
	unsigned long long total, free, used;
} nvml_memory;

typedef struct {
	int (*init)(void);
	int (*shutdown)(void);
	int (*driver)(char *, unsigned);
	int (*by_bus)(const char *, void **);
	int (*memory)(void *, nvml_memory *);
} nvml_api;

// CUdevice_attribute
enum { capability_major = 75, capability_minor = 76 };

static int lookup(void *library, const char *name, void *target, char *text, size_t size) {
	void *f = dlsym(library, name);
	memcpy(target, &f, sizeof f);
	if (!f && text) snprintf(text, size, "%s", name);
	return f != 0;
}

static int load_cuda(void *library, cuda_api *api, char *text, size_t size) {
	return lookup(library, "cuInit", &api->init, text, size) &&
	       lookup(library, "cuDriverGetVersion", &api->version, text, size) &&
	       lookup(library, "cuDeviceGetCount", &api->count, text, size) &&
	       lookup(library, "cuDeviceGet", &api->get, text, size) &&
	       lookup(library, "cuDeviceGetName", &api->name, text, size) &&
	       lookup(library, "cuDeviceGetPCIBusId", &api->bus, text, size) &&
	       lookup(library, "cuDeviceGetAttribute", &api->attribute, text, size) &&
	       lookup(library, "cuDeviceTotalMem_v2", &api->total, text, size) &&
	       lookup(library, "cuGetErrorString", &api->explain, text, size);
}

static int load_nvml(void *library, nvml_api *api) {
	return lookup(library, "nvmlInit_v2", &api->init, 0, 0) &&
	       lookup(library, "nvmlShutdown", &api->shutdown, 0, 0) &&
	       lookup(library, "nvmlSystemGetDriverVersion", &api->driver, 0, 0) &&
	       lookup(library, "nvmlDeviceGetHandleByPciBusId_v2", &api->by_bus, 0, 0) &&
	       lookup(library, "nvmlDeviceGetMemoryInfo", &api->memory, 0, 0);
}

static int describe(const cuda_api *api, int index, nvidia_gpu *g) {
	int device = 0;
	size_t total = 0;
	int code = api->get(&device, index);
	if (!code) code = api->name(g->name, sizeof g->name, device);
	if (!code) code = api->bus(g->bus, sizeof g->bus, device);
	if (!code) code = api->attribute(&g->major, capability_major, device);
	if (!code) code = api->attribute(&g->minor, capability_minor, device);
	if (!code) code = api->total(&total, device);
	g->total = total;
	return code;
}

static int look(const cuda_api *api, nvidia_system *out) {
	// The version is told without a GPU, too.
	int code = api->version(&out->version);
	if (!code) code = api->init(0);
	if (!code) code = api->count(&out->count);
	if (out->count > nvidia_max) out->count = nvidia_max;
	for (int i = 0; !code && i < out->count; i++) code = describe(api, i, &out->gpus[i]);
	return code;
}

// measure asks NVML for what CUDA tells only to those who occupy memory on the
// GPU. NVML knows whole cards only: what does not fit the size that CUDA told,
// as on a part of a card (MIG), is left out.
static void measure(const nvml_api *api, nvidia_system *out) {
	if (api->driver(out->driver, sizeof out->driver)) out->driver[0] = 0;
	for (int i = 0; i < out->count; i++) {
		nvidia_gpu *g = &out->gpus[i];
		void *device = 0;
		nvml_memory m = {0, 0, 0};
		if (api->by_bus(g->bus, &device) || api->memory(device, &m)) continue;
		if (m.total < g->total + g->total / 8) g->free = m.free < g->total ? m.free : g->total;
	}
}

void nvidia_look(const char *cuda, const char *nvml, nvidia_system *out) {
	memset(out, 0, sizeof *out);
	// Neither library is unloaded again: they start threads.
	void *nvml_library = dlopen(nvml, RTLD_NOW | RTLD_LOCAL);
	nvml_api n;
	int measured = nvml_library && load_nvml(nvml_library, &n) && !n.init();
	void *library = dlopen(cuda, RTLD_NOW | RTLD_LOCAL);
	cuda_api api;
	if (!library) {
		out->state = nvidia_absent;
		snprintf(out->text, sizeof out->text, "%s", dlerror());
	} else if (!load_cuda(library, &api, out->text, sizeof out->text)) {
		out->state = nvidia_broken;
	} else if ((out->code = look(&api, out))) {
		const char *text = 0;
		out->state = nvidia_failed;
		out->count = 0;
		api.explain(out->code, &text);
		snprintf(out->text, sizeof out->text, "%s", text ? text : "unknown error");
	}
	if (measured) {
		measure(&n, out);
		n.shutdown();
	}
}
