#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int major, minor;
	unsigned long long total, free;
} gpus[] = {GPUS};

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "%s", DRIVER); return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
	int i = -1;
	if (sscanf(bus, "0000:%x:00.0", &i) != 1 || i >= COUNT) return 6;
	*device = (void *)&gpus[i];
	return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
	memcpy(memory, (char *)device + 16, 16);
	memory[2] = memory[0] - memory[1];
	return 0;
}
