//go:build cgo

// The part of ONNX Runtime's C interface that a custom operator needs. Names,
// positions and the layout of OrtCustomOp are those of onnxruntime_c_api.h, API
// version 24, Copyright (c) Microsoft Corporation, MIT License. OrtApi is a
// table of function pointers that only ever grows at its end.
#ifndef ORT_H
#define ORT_H

#include <stddef.h>
#include <stdint.h>

typedef void *const *OrtApi;
typedef void OrtStatus; // null is success
typedef struct OrtCustomOp OrtCustomOp;

enum {
	ORT_API_VERSION = 24,
	ORT_FLOAT = 1,            // ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
	ORT_INVALID_ARGUMENT = 2, // OrtErrorCode
	ORT_REQUIRED = 0,         // OrtCustomOpInputOutputCharacteristic
	ORT_OPTIONAL = 1,
	ORT_ARENA = 1,            // OrtAllocatorType: OrtArenaAllocator
	ORT_DEFAULT_MEMORY = 0    // OrtMemType
};

enum { // places in OrtApi
	CreateStatus = 0,
	CreateCustomOpDomain = 26,
	CustomOpDomain_Add = 27,
	AddCustomOpDomain = 28,
	GetTensorMutableData = 51,
	CreateTensorTypeAndShapeInfo = 57,
	SetTensorElementType = 58,
	SetDimensions = 59,
	GetDimensionsCount = 61,
	GetDimensions = 62,
	GetSymbolicDimensions = 63,
	GetTensorTypeAndShape = 65,
	CreateCpuMemoryInfo = 69,
	AllocatorAlloc = 75,
	AllocatorFree = 76,
	KernelContext_GetInputCount = 88,
	KernelContext_GetInput = 90,
	KernelContext_GetOutput = 91,
	ReleaseStatus = 93,
	ReleaseMemoryInfo = 94,
	ReleaseTensorTypeAndShapeInfo = 99,
	ReleaseCustomOpDomain = 101,
	ReleaseAllocator = 132,
	KernelContext_GetAllocator = 253,
	ShapeInferContext_GetInputTypeShape = 268,
	ShapeInferContext_SetOutputTypeShape = 270,
	SetSymbolicDimensions = 271,
	KernelContext_ParallelFor = 274
};

struct OrtCustomOp {
	uint32_t version;
	void *CreateKernel; // the older form of CreateKernelV2
	const char *(*GetName)(const OrtCustomOp *);
	const char *(*GetExecutionProviderType)(const OrtCustomOp *);
	int (*GetInputType)(const OrtCustomOp *, size_t);
	size_t (*GetInputTypeCount)(const OrtCustomOp *);
	int (*GetOutputType)(const OrtCustomOp *, size_t);
	size_t (*GetOutputTypeCount)(const OrtCustomOp *);
	void *KernelCompute; // the older form of KernelComputeV2
	void (*KernelDestroy)(void *);
	int (*GetInputCharacteristic)(const OrtCustomOp *, size_t);
	int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t);
	int (*GetInputMemoryType)(const OrtCustomOp *, size_t);
	void *GetVariadicInputMinArity, *GetVariadicInputHomogeneity;
	void *GetVariadicOutputMinArity, *GetVariadicOutputHomogeneity;
	OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, OrtApi, const void *info, void **kernel);
	OrtStatus *(*KernelComputeV2)(void *kernel, void *context);
	OrtStatus *(*InferOutputShapeFn)(const OrtCustomOp *, void *context);
	int (*GetStartVersion)(const OrtCustomOp *);
	int (*GetEndVersion)(const OrtCustomOp *);
	void *GetMayInplace, *ReleaseMayInplace, *GetAliasMap, *ReleaseAliasMap;
};

// CALL calls a function of the table that returns a status; PARAMETERS are the
// types of its parameters, in parentheses.
#define CALL(api, function, PARAMETERS, ...) (((OrtStatus * (*)PARAMETERS)(api)[function])(__VA_ARGS__))

// RELEASE calls a function of the table that releases something.
#define RELEASE(api, function, object) (((void (*)(void *))(api)[function])(object))

#endif
