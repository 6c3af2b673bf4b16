#include "vulkan.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// The few types of vulkan.h that are needed, of Vulkan 1.0, which no later
// version changes.
typedef struct {
	int32_t type;
	const void *next;
	const char *name;
	uint32_t version;
	const char *engine;
	uint32_t engine_version, api;
} application_info;

typedef struct {
	int32_t type;
	const void *next;
	uint32_t flags;
	const application_info *application;
	uint32_t layer_count;
	const char *const *layers;
	uint32_t extension_count;
	const char *const *extensions;
} instance_info;

// The beginning of VkPhysicalDeviceProperties, which has 824 bytes.
typedef union {
	struct {
		uint32_t api, driver, vendor, device, kind;
		char name[256];
	};
	uint64_t room[128];
} properties;

typedef struct {
	uint32_t type_count;
	struct { uint32_t flags, heap; } types[32];
	uint32_t heap_count;
	struct { uint64_t size; uint32_t flags; } heaps[16];
} memory_properties;

_Static_assert(sizeof(memory_properties) == 520, "VkPhysicalDeviceMemoryProperties");

enum { application_type = 0, instance_type = 1, incomplete = 5, device_local = 1, version_1_1 = 1 << 22 | 1 << 12 };

typedef void (*function)(void);
typedef function (*get_proc)(void *instance, const char *name);

typedef struct {
	int32_t (*create)(const instance_info *, const void *, void **);
	void (*destroy)(void *, const void *);
	int32_t (*enumerate)(void *, uint32_t *, void **);
	void (*properties)(void *, properties *);
	void (*memory)(void *, memory_properties *);
} vulkan_api;

static int lookup(get_proc get, void *instance, const char *name, void *target) {
	function f = get(instance, name);
	memcpy(target, &f, sizeof f);
	return f != 0;
}

static void describe(const vulkan_api *api, void *device, vulkan_adapter *a) {
	properties p;
	memory_properties m;
	memset(&p, 0, sizeof p);
	memset(&m, 0, sizeof m);
	api->properties(device, &p);
	api->memory(device, &m);
	snprintf(a->name, sizeof a->name, "%.255s", p.name);
	a->kind = p.kind;
	a->version = p.api;
	for (uint32_t i = 0; i < m.heap_count && i < 16; i++)
		if (m.heaps[i].flags & device_local && m.heaps[i].size > a->memory) a->memory = m.heaps[i].size;
}

static int32_t list(get_proc get, vulkan_system *out) {
	vulkan_api api;
	application_info app = {application_type, 0, "comfyrun", 1, 0, 0, version_1_1};
	instance_info info = {instance_type, 0, 0, &app, 0, 0, 0, 0};
	void *instance = 0, *devices[vulkan_max];
	uint32_t n = vulkan_max;
	if (!lookup(get, 0, "vkCreateInstance", &api.create)) return -1;
	int32_t code = api.create(&info, 0, &instance);
	if (code) return code;
	if (!lookup(get, instance, "vkDestroyInstance", &api.destroy) ||
	    !lookup(get, instance, "vkEnumeratePhysicalDevices", &api.enumerate) ||
	    !lookup(get, instance, "vkGetPhysicalDeviceProperties", &api.properties) ||
	    !lookup(get, instance, "vkGetPhysicalDeviceMemoryProperties", &api.memory))
		return -1;
	code = api.enumerate(instance, &n, devices);
	if (code == incomplete) code = 0;
	for (uint32_t i = 0; !code && i < n; i++) describe(&api, devices[i], &out->adapters[out->count++]);
	api.destroy(instance, 0);
	return code;
}

void vulkan_look(const char *library, vulkan_system *out) {
	memset(out, 0, sizeof *out);
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	get_proc get = 0;
	if (handle) {
		void *f = dlsym(handle, "vkGetInstanceProcAddr");
		memcpy(&get, &f, sizeof f);
	}
	if (!get) {
		const char *text = dlerror();
		out->absent = 1;
		snprintf(out->text, sizeof out->text, "%s", text ? text : "no vkGetInstanceProcAddr");
		return;
	}
	out->code = list(get, out);
}
