// The null GPU's libcudnn.so.9. Its graph interface is a store of attributes:
// what was set is what is got. A heuristic knows one engine without settings,
// whose plans need no memory. The numbers are those of cudnn_graph.h.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void nullcuda_count(const char *name);

enum {
	heuristic_results = 202, config_engine = 300, config_knobs = 302, plan_workspace = 402, plan_json = 405,
	graph_operations = 801, graph_engines = 802, engine_index = 1301, engine_knobs = 1302, engine_numerics = 1303, engine_behaviours = 1305,
	type_handle = 0, type_boolean = 2, type_int64 = 3, type_double = 5, type_pointer = 6, type_descriptor = 15, type_char = 24, type_fraction = 26,
	bad_pointer = 2002,
};

struct attribute {
	int name;
	int64_t count;
	void *elements;
	struct attribute *next;
};

struct descriptor {
	int type;
	struct attribute *attributes;
};

static size_t size_of(int type) {
	switch (type) {
	case type_handle: case type_int64: case type_double: case type_pointer: case type_descriptor: return 8;
	case type_fraction: return 16;
	case type_boolean: case type_char: return 1;
	}
	return 4;
}

static struct attribute *find(const struct descriptor *d, int name) {
	struct attribute *a = d->attributes;
	while (a && a->name != name) a = a->next;
	return a;
}

int cudnnBackendCreateDescriptor(int type, struct descriptor **out) {
	*out = calloc(1, sizeof **out);
	(*out)->type = type;
	return 0;
}

int cudnnBackendDestroyDescriptor(struct descriptor *d) {
	for (struct attribute *a = d ? d->attributes : 0, *next; a; a = next) next = a->next, free(a->elements), free(a);
	free(d);
	return 0;
}

int cudnnBackendSetAttribute(struct descriptor *d, int name, int type, int64_t count, const void *elements) {
	if (!d || (count > 0 && !elements)) return bad_pointer;
	struct attribute *a = find(d, name);
	if (!a) {
		a = calloc(1, sizeof *a);
		a->name = name, a->next = d->attributes, d->attributes = a;
	}
	a->count = count;
	a->elements = realloc(a->elements, size_of(type) * count + 1);
	if (count > 0) memcpy(a->elements, elements, size_of(type) * count);
	return 0;
}

int cudnnBackendGetAttribute(const struct descriptor *d, int name, int type, int64_t wanted, int64_t *count, void *elements) {
	const struct attribute *a = find(d, name);
	int64_t n = a ? a->count : 1;
	if (!a && (name == config_knobs || name == engine_knobs || name == engine_numerics || name == engine_behaviours || name == plan_json)) n = 0;
	if (count) *count = n;
	if (n > wanted) n = wanted;
	if (!elements || n <= 0) return 0;
	if (a)
		memcpy(elements, a->elements, size_of(type) * n);
	else if (type != type_descriptor) // descriptors are the caller's, who may go on with them as they are
		memset(elements, 0, size_of(type) * n);
	if (name == graph_engines) *(int64_t *)elements = 1;
	return 0;
}

// What a graph does is told by the types of its operations.
static const char *const operations[] = {
	[10] = "cudnn: convolution", [13] = "cudnn: pointwise", [19] = "cudnn: matmul", [22] = "cudnn: reduction", [29] = "cudnn: norm", [31] = "cudnn: reshape",
};

int cudnnBackendFinalize(struct descriptor *d) {
	const struct attribute *ops = find(d, graph_operations);
	for (int64_t i = 0; ops && i < ops->count; i++) {
		int type = ((struct descriptor **)ops->elements)[i]->type;
		const char *name = type < (int)(sizeof operations / sizeof *operations) ? operations[type] : 0;
		nullcuda_count(name ? name : "cudnn: another operation");
	}
	return 0;
}

int cudnnBackendExecute(void *handle, void *plan, void *pack) { nullcuda_count("cudnnBackendExecute"); return 0; }

size_t cudnnGetVersion(void) { return 91900; }
size_t cudnnGetCudartVersion(void) { return 13000; }
const char *cudnnGetErrorString(int status) { return status ? "CUDNN_STATUS_INTERNAL_ERROR" : "CUDNN_STATUS_SUCCESS"; }
void cudnnGetLastErrorString(char *text, size_t size) { if (size) *text = 0; }
int cudnnCreate(void **out) { *out = calloc(1, sizeof(void *)); return 0; }
int cudnnDestroy(void *handle) { free(handle); return 0; }
int cudnnSetStream(void **handle, void *stream) { *handle = stream; return 0; }
int cudnnGetStream(void **handle, void **stream) { *stream = *handle; return 0; }

// The older interface.
#define NOTHING(name) int name(void) { nullcuda_count(#name); return 0; }
#define QUIET(name) int name(void) { return 0; }
#define DESCRIPTOR(name) \
	int cudnnCreate##name##Descriptor(void **out) { *out = malloc(1); return 0; } \
	int cudnnDestroy##name##Descriptor(void *d) { free(d); return 0; }

DESCRIPTOR(Activation)
DESCRIPTOR(Convolution)
DESCRIPTOR(Dropout)
DESCRIPTOR(Filter)
DESCRIPTOR(LRN)
DESCRIPTOR(Pooling)
DESCRIPTOR(RNN)
DESCRIPTOR(RNNData)
DESCRIPTOR(ReduceTensor)
DESCRIPTOR(Tensor)
QUIET(cudnnDeriveBNTensorDescriptor)
QUIET(cudnnSetActivationDescriptor)
QUIET(cudnnSetConvolutionGroupCount)
QUIET(cudnnSetConvolutionMathType)
QUIET(cudnnSetConvolutionNdDescriptor)
QUIET(cudnnSetFilterNdDescriptor)
QUIET(cudnnSetPoolingNdDescriptor)
QUIET(cudnnSetReduceTensorDescriptor)
QUIET(cudnnSetTensorNdDescriptor)
NOTHING(cudnnActivationForward)
NOTHING(cudnnAddTensor)
NOTHING(cudnnBatchNormalizationForwardInference)
NOTHING(cudnnBatchNormalizationForwardTraining)
NOTHING(cudnnConvolutionBiasActivationForward)
NOTHING(cudnnConvolutionForward)
NOTHING(cudnnPoolingForward)
NOTHING(cudnnReduceTensor)
NOTHING(cudnnSoftmaxForward)
int cudnnGetReductionIndicesSize(void *h, void *r, void *x, void *y, size_t *size) { *size = 0; return 0; }
int cudnnGetReductionWorkspaceSize(void *h, void *r, void *x, void *y, size_t *size) { *size = 0; return 0; }
