#include <stdint.h>
#include <string.h>

static const struct {
	const char *name;
	uint32_t kind;
	uint64_t memory;
} adapters[] = {ADAPTERS};

static int instance;

static int create(const void *info, const void *allocator, void **out) { *out = &instance; return RESULT; }
static void destroy(void *i, const void *allocator) {}
static int enumerate(void *i, uint32_t *n, void **out) {
	int code = *n < COUNT ? 5 : 0;
	if (*n > COUNT) *n = COUNT;
	for (uint32_t k = 0; k < *n; k++) out[k] = (void *)&adapters[k];
	return code;
}
static void properties(void *device, uint32_t *p) {
	const uint32_t version = 1 << 22 | 3 << 12 | 280;
	int k = (int)(((char *)device - (char *)adapters) / sizeof adapters[0]);
	memset(p, 0xff, 824);
	p[0] = version;
	p[4] = adapters[k].kind;
	memset(p + 5, 0, 256);
	strcpy((char *)(p + 5), adapters[k].name);
}
static void memory(void *device, uint32_t *m) {
	int k = (int)(((char *)device - (char *)adapters) / sizeof adapters[0]);
	uint64_t *heaps = (uint64_t *)(m + 66);
	memset(m, 0, 520);
	m[65] = 2;
	heaps[0] = 1ull << 60; // the host's
	heaps[2] = adapters[k].memory;
	*(uint32_t *)&heaps[3] = 1; // the device's
}

void *vkGetInstanceProcAddr(void *i, const char *name) {
	if (!strcmp(name, "vkCreateInstance")) return create;
	if (i != &instance) return 0;
	if (!strcmp(name, "vkDestroyInstance")) return destroy;
	if (!strcmp(name, "vkEnumeratePhysicalDevices")) return enumerate;
	if (!strcmp(name, "vkGetPhysicalDeviceProperties")) return properties;
	if (!strcmp(name, "vkGetPhysicalDeviceMemoryProperties")) return memory;
	return 0;
}
