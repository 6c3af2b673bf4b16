#include <stddef.h>
#include <stdio.h>

static const struct {
	const char *name;
	int major, minor;
	unsigned long long total, free;
} gpus[] = {GPUS};

int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *v) { *v = VERSION; return 0; }
int cuDeviceGetCount(int *n) { *n = COUNT; return INIT; }
int cuDeviceGet(int *device, int index) { *device = 100 + index; return index < COUNT ? 0 : 101; }
int cuDeviceGetName(char *text, int size, int device) { snprintf(text, size, "%s", gpus[device - 100].name); return 0; }
int cuDeviceGetPCIBusId(char *text, int size, int device) { snprintf(text, size, "0000:%02x:00.0", device - 100); return 0; }
int cuDeviceGetAttribute(int *v, int attribute, int device) {
	*v = attribute == 75 ? gpus[device - 100].major : attribute == 76 ? gpus[device - 100].minor : -1;
	return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = gpus[device - 100].total; return 0; }
int cuGetErrorString(int code, const char **text) { *text = code == 100 ? "no CUDA-capable device is detected" : 0; return *text ? 0 : 1; }
// The CUDA provider is bound to this one when it is loaded, to others when it calls them.
int cuTensorMapEncodeTiled(void) { return 801; }
