// The null GPU's cuBLAS, cuBLASLt and cuRAND: each function that the CUDA
// provider calls is counted and does nothing, but for those that give something
// back. LIBRARY says which of them is compiled.
#include <stddef.h>
#include <string.h>

void nullcuda_count(const char *name);

#define NOTHING(name) int name(void) { nullcuda_count(#name); return 0; }
#define HANDLE(name) int name(void **out) { static int handle; *out = &handle; return 0; }
#define QUIET(name) int name(void) { return 0; }

#define cublas 1
#define cublasLt 2
#define curand 3

#if LIBRARY == cublas
HANDLE(cublasCreate_v2)
QUIET(cublasDestroy_v2)
QUIET(cublasSetStream_v2)
QUIET(cublasSetMathMode)
int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }
const char *cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS_INTERNAL_ERROR" : "CUBLAS_STATUS_SUCCESS"; }
const char *cublasGetStatusString(int status) { return status ? "an internal operation failed" : "success"; }
NOTHING(cublasDcopy_v2)
NOTHING(cublasDgeam)
NOTHING(cublasDgemmBatched)
NOTHING(cublasDgemmStridedBatched)
NOTHING(cublasDgemm_v2)
NOTHING(cublasDgetrfBatched)
NOTHING(cublasDgetriBatched)
NOTHING(cublasGemmBatchedEx)
NOTHING(cublasGemmEx)
NOTHING(cublasGemmStridedBatchedEx)
NOTHING(cublasScopy_v2)
NOTHING(cublasSgeam)
NOTHING(cublasSgemmBatched)
NOTHING(cublasSgemmStridedBatched)
NOTHING(cublasSgemm_v2)
NOTHING(cublasSgetrfBatched)
NOTHING(cublasSgetriBatched)
NOTHING(cublasSscal_v2)
#elif LIBRARY == cublasLt
HANDLE(cublasLtCreate)
QUIET(cublasLtDestroy)
HANDLE(cublasLtMatmulDescCreate)
QUIET(cublasLtMatmulDescDestroy)
QUIET(cublasLtMatmulDescSetAttribute)
HANDLE(cublasLtMatmulPreferenceCreate)
QUIET(cublasLtMatmulPreferenceDestroy)
QUIET(cublasLtMatmulPreferenceSetAttribute)
HANDLE(cublasLtMatrixLayoutCreate)
QUIET(cublasLtMatrixLayoutDestroy)
QUIET(cublasLtMatrixLayoutSetAttribute)
HANDLE(cublasLtMatrixTransformDescCreate)
QUIET(cublasLtMatrixTransformDescDestroy)
QUIET(cublasLtMatmulAlgoConfigSetAttribute)
QUIET(cublasLtMatmulAlgoInit)
NOTHING(cublasLtMatmul)
NOTHING(cublasLtMatrixTransform)
// The result is an algorithm of 64 bytes, its workspace, status and waves.
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c, void *d, void *preference, int wanted, char *results, int *count) {
	*count = wanted > 0;
	memset(results, 0, wanted > 0 ? 96 : 0);
	return 0;
}
#elif LIBRARY == curand
HANDLE(curandCreateGenerator)
#else
#error LIBRARY is cublas, cublasLt or curand
#endif
