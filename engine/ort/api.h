// The part of ONNX Runtime's C interface that the binding lacks, or that is
// needed before the binding may touch the library. OrtApi is a table of
// function pointers that only ever grows at its end, so positions stay valid;
// these are those of API version 24 (onnxruntime_c_api.h, struct OrtApi; a test
// compares them with the binding's copy of it).
#include <stdint.h>
#include <stdlib.h>

typedef void *const *api_table;

enum {
	api_version = 24,
	at_GetErrorMessage = 2,
	at_CreateTensorWithDataAsOrtValue = 49,
	at_GetTensorMutableData = 51,
	at_GetTensorElementType = 60,
	at_GetDimensionsCount = 61,
	at_GetDimensions = 62,
	at_GetTensorTypeAndShape = 65,
	at_CreateMemoryInfo = 68,
	at_CreateCpuMemoryInfo = 69,
	at_AllocatorFree = 76,
	at_GetAllocatorWithDefaultOptions = 78,
	at_ReleaseStatus = 93,
	at_ReleaseMemoryInfo = 94,
	at_ReleaseValue = 96,
	at_ReleaseTensorTypeAndShapeInfo = 99,
	at_GetAvailableProviders = 125,
	at_ReleaseAvailableProviders = 126,
	at_RunWithBinding = 133,
	at_CreateIoBinding = 134,
	at_ReleaseIoBinding = 135,
	at_BindInput = 136,
	at_BindOutputToDevice = 138,
	at_GetBoundOutputValues = 140,
	at_ClearBoundOutputs = 142,
	at_AddRunConfigEntry = 165,
	at_SynchronizeBoundInputs = 202,
	at_SynchronizeBoundOutputs = 203,
	at_Session_GetEpGraphAssignmentInfo = 407,
	at_EpAssignedSubgraph_GetEpName = 408,
	at_EpAssignedSubgraph_GetNodes = 409,
	at_EpAssignedNode_GetName = 410,
	at_EpAssignedNode_GetDomain = 411,
	at_EpAssignedNode_GetOperatorType = 412
};
