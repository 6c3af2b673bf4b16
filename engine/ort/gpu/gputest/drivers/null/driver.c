
// The rest of the null GPU's libcuda.so.1: kernels that the CUDA provider carries
// as programs for a GPU and launches by the driver.
void nullcuda_count(const char *name);

int cuGetErrorName(int code, const char **name) { *name = code ? "CUDA_ERROR_UNKNOWN" : "CUDA_SUCCESS"; return 0; }
int cuModuleLoadData(void **module, const void *image) { *module = (void *)image; return 0; }
int cuModuleUnload(void *module) { return 0; }
int cuModuleGetFunction(const char **function, void *module, const char *name) { *function = name; return 0; }
int cuFuncSetAttribute(const char *function, int attribute, int value) { return 0; }
int cuFuncSetCacheConfig(const char *function, int config) { return 0; }
int cuFuncGetAttribute(int *value, int attribute, const char *function) { *value = 0; return 0; }
int cuLaunchKernel(const char *function) { nullcuda_count(function); return 0; }
int cuLaunchCooperativeKernel(const char *function) { nullcuda_count(function); return 0; }
int cuLinkCreate_v2(void) { return 801; }
int cuLinkAddData_v2(void) { return 801; }
int cuLinkAddFile_v2(void) { return 801; }
int cuLinkComplete(void) { return 801; }
int cuLinkDestroy(void) { return 801; }
