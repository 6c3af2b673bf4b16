//go:build cgo

// The operator WinogradConv as ONNX Runtime sees it.
#include "op.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "winograd.h"

enum { RANK = 4, INPUTS = 4 };

// Op is the operator of one session. It serves as the kernel of all its nodes,
// too: a node has no state.
typedef struct {
	OrtCustomOp ort; // first, so that the two share an address
	OrtApi api;
	const Kernel *kernel;
	Size threads;
	void *memory; // OrtMemoryInfo of the arena
} Op;

struct winograd_domain {
	void *ort;
	Op op;
};

// Tensor is an input or output.
typedef struct {
	float *data; // null: the input is left out
	size_t rank;
	int64_t dims[RANK];
} Tensor;

static OrtStatus *invalid(OrtApi api, const char *message) {
	return CALL(api, CreateStatus, (int, const char *), ORT_INVALID_ARGUMENT, message);
}

static OrtStatus *describe(OrtApi api, void *value, Tensor *t) {
	void *info;
	OrtStatus *s = CALL(api, GetTensorMutableData, (void *, void **), value, (void **)&t->data);
	if (s || (s = CALL(api, GetTensorTypeAndShape, (void *, void **), value, &info))) return s;
	s = CALL(api, GetDimensionsCount, (void *, size_t *), info, &t->rank);
	if (!s && t->rank <= RANK) s = CALL(api, GetDimensions, (void *, int64_t *, size_t), info, t->dims, t->rank);
	RELEASE(api, ReleaseTensorTypeAndShapeInfo, info);
	return s;
}

static OrtStatus *inputs(OrtApi api, void *context, Tensor in[INPUTS]) {
	size_t count;
	OrtStatus *s = CALL(api, KernelContext_GetInputCount, (void *, size_t *), context, &count);
	for (size_t i = 0; !s && i < count && i < INPUTS; i++) {
		void *value;
		s = CALL(api, KernelContext_GetInput, (void *, size_t, void **), context, i, &value);
		if (!s && value) s = describe(api, value, &in[i]);
	}
	return s;
}

// convolution checks the shapes and puts the convolution together.
static const char *convolution(const Tensor in[INPUTS], Conv *c) {
	const Tensor *x = &in[0], *u = &in[1], *bias = &in[2], *plus = &in[3];
	if (x->rank != 4) return "WinogradConv: x must be [batch, channels, height, width]";
	if (bias->rank != 1) return "WinogradConv: bias must be [channels]";
	*c = (Conv){.x = x->data, .u = u->data, .bias = bias->data, .batch = x->dims[0], .cin = x->dims[1],
	            .cout = bias->dims[0], .h = x->dims[2], .w = x->dims[3]};
	if (u->rank != 4 || u->dims[0] != POINTS || u->dims[1] != (c->cout + PANEL - 1) / PANEL || u->dims[2] != c->cin ||
	    u->dims[3] != PANEL)
		return "WinogradConv: weights do not fit x and bias, want [36, channels out/8, channels in, 8]";
	if (!plus->data) return 0;
	c->plus = plus->data;
	if (plus->rank != 4 || plus->dims[0] != c->batch || plus->dims[1] != c->cout)
		return "WinogradConv: the summand does not fit the result";
	int plane = plus->dims[2] == c->h && plus->dims[3] == c->w;
	if (!plane && (plus->dims[2] != 1 || plus->dims[3] != 1)) return "WinogradConv: the summand does not fit the result";
	c->plus_plane = plane;
	return 0;
}

// Task is a convolution under way. Each unit takes one of the places, which
// are as many as there are threads, for its working memory.
typedef struct {
	Plan plan;
	atomic_flag *taken;
	char *memory;
	Size places;
} Task;

static void unit(void *task, size_t index) {
	Task *t = task;
	for (Size i = 0;; i++) {
		if (i == t->places) {
			i = 0;
			sched_yield();
		}
		if (atomic_flag_test_and_set_explicit(&t->taken[i], memory_order_acquire)) continue;
		winograd_unit(&t->plan, index, t->memory + i * t->plan.scratch);
		atomic_flag_clear_explicit(&t->taken[i], memory_order_release);
		return;
	}
}

// share computes the units in memory on the session's threads.
static OrtStatus *share(const Op *op, void *context, Task *t, void *memory) {
	t->memory = memory;
	t->taken = (atomic_flag *)(t->memory + t->places * t->plan.scratch);
	for (Size i = 0; i < t->places; i++) atomic_flag_clear(&t->taken[i]);
	return CALL(op->api, KernelContext_ParallelFor, (void *, void (*)(void *, size_t), size_t, size_t, void *), context,
	            unit, winograd_units(&t->plan), 0, t);
}

static OrtStatus *run(const Op *op, void *context, Conv conv) {
	Task t = {.plan = winograd_plan(op->kernel, conv, op->threads)};
	Size units = winograd_units(&t.plan);
	t.places = units < op->threads ? units : op->threads;
	void *allocator, *memory;
	OrtStatus *s = CALL(op->api, KernelContext_GetAllocator, (void *, void *, void **), context, op->memory, &allocator);
	if (s) return s;
	size_t size = t.places * (t.plan.scratch + sizeof *t.taken);
	s = CALL(op->api, AllocatorAlloc, (void *, size_t, void **), allocator, size, &memory);
	if (!s) {
		s = share(op, context, &t, memory);
		OrtStatus *freed = CALL(op->api, AllocatorFree, (void *, void *), allocator, memory);
		if (freed) RELEASE(op->api, ReleaseStatus, freed);
	}
	RELEASE(op->api, ReleaseAllocator, allocator);
	return s;
}

static OrtStatus *compute(void *kernel, void *context) {
	const Op *op = kernel;
	Tensor in[INPUTS] = {{0}}, out;
	Conv conv;
	OrtStatus *s = inputs(op->api, context, in);
	if (s) return s;
	const char *problem = convolution(in, &conv);
	if (problem) return invalid(op->api, problem);
	int64_t dims[RANK] = {conv.batch, conv.cout, conv.h, conv.w};
	void *value;
	s = CALL(op->api, KernelContext_GetOutput, (void *, size_t, const int64_t *, size_t, void **), context, 0, dims, RANK,
	         &value);
	if (s || (s = describe(op->api, value, &out))) return s;
	conv.y = out.data;
	int empty = !conv.batch || !conv.cout || !conv.h || !conv.w;
	return empty ? 0 : run(op, context, conv);
}

// output tells the shape of the result: x's with bias's channels.
static OrtStatus *output(OrtApi api, void *context, void *x, void *bias, void *y) {
	int64_t dims[RANK], channels[1];
	const char *names[RANK] = {0};
	size_t rank, ranks;
	OrtStatus *s = CALL(api, GetDimensionsCount, (void *, size_t *), x, &rank);
	if (s || (s = CALL(api, GetDimensionsCount, (void *, size_t *), bias, &ranks))) return s;
	if (rank != RANK || ranks != 1) return invalid(api, "WinogradConv: x must have four dimensions and bias one");
	if ((s = CALL(api, GetDimensions, (void *, int64_t *, size_t), x, dims, RANK))) return s;
	if ((s = CALL(api, GetSymbolicDimensions, (void *, const char **, size_t), x, names, RANK))) return s;
	if ((s = CALL(api, GetDimensions, (void *, int64_t *, size_t), bias, channels, 1))) return s;
	dims[1] = channels[0];
	names[1] = "";
	// A size that has neither number nor name cannot be passed on; the graph may declare the result itself.
	for (int i = 0; i < RANK; i++)
		if (dims[i] < 0 && (!names[i] || !*names[i])) return 0;
	if ((s = CALL(api, SetTensorElementType, (void *, int), y, ORT_FLOAT))) return s;
	if ((s = CALL(api, SetDimensions, (void *, const int64_t *, size_t), y, dims, RANK))) return s;
	if ((s = CALL(api, SetSymbolicDimensions, (void *, const char **, size_t), y, names, RANK))) return s;
	return CALL(api, ShapeInferContext_SetOutputTypeShape, (void *, size_t, void *), context, 0, y);
}

static OrtStatus *infer(const OrtCustomOp *op, void *context) {
	OrtApi api = ((const Op *)op)->api;
	void *x, *bias, *y;
	OrtStatus *s = CALL(api, ShapeInferContext_GetInputTypeShape, (void *, size_t, void **), context, 0, &x);
	if (!s) s = CALL(api, ShapeInferContext_GetInputTypeShape, (void *, size_t, void **), context, 2, &bias);
	if (s) { // shapes may be unknown
		RELEASE(api, ReleaseStatus, s);
		return 0;
	}
	if ((s = CALL(api, CreateTensorTypeAndShapeInfo, (void **), &y))) return s;
	s = output(api, context, x, bias, y);
	RELEASE(api, ReleaseTensorTypeAndShapeInfo, y);
	return s;
}

static OrtStatus *create(const OrtCustomOp *op, OrtApi api, const void *info, void **kernel) {
	(void)api, (void)info;
	*kernel = (void *)op;
	return 0;
}

static void destroy(void *kernel) { (void)kernel; }
static const char *name(const OrtCustomOp *op) { return (void)op, "WinogradConv"; }
static const char *provider(const OrtCustomOp *op) { return (void)op, (const char *)0; } // the CPU
static int type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_FLOAT; }
static size_t input_count(const OrtCustomOp *op) { return (void)op, (size_t)INPUTS; }
static size_t output_count(const OrtCustomOp *op) { return (void)op, (size_t)1; }
static int input_kind(const OrtCustomOp *op, size_t i) { return (void)op, i < 3 ? ORT_REQUIRED : ORT_OPTIONAL; }
static int output_kind(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_REQUIRED; }
static int memory_kind(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_DEFAULT_MEMORY; }
static int first_version(const OrtCustomOp *op) { return (void)op, 1; }
static int last_version(const OrtCustomOp *op) { return (void)op, INT32_MAX; }

static const OrtCustomOp definition = {
	.version = ORT_API_VERSION,
	.GetName = name,
	.GetExecutionProviderType = provider,
	.GetInputType = type,
	.GetInputTypeCount = input_count,
	.GetOutputType = type,
	.GetOutputTypeCount = output_count,
	.KernelDestroy = destroy,
	.GetInputCharacteristic = input_kind,
	.GetOutputCharacteristic = output_kind,
	.GetInputMemoryType = memory_kind,
	.CreateKernelV2 = create,
	.KernelComputeV2 = compute,
	.InferOutputShapeFn = infer,
	.GetStartVersion = first_version,
	.GetEndVersion = last_version,
};

static OrtStatus *fill(OrtApi api, winograd_domain *d, void *options) {
	OrtStatus *s = CALL(api, CreateCpuMemoryInfo, (int, int, void **), ORT_ARENA, ORT_DEFAULT_MEMORY, &d->op.memory);
	if (!s) s = CALL(api, CreateCustomOpDomain, (const char *, void **), WINOGRAD_DOMAIN, &d->ort);
	if (!s) s = CALL(api, CustomOpDomain_Add, (void *, const OrtCustomOp *), d->ort, &d->op.ort);
	if (!s) s = CALL(api, AddCustomOpDomain, (void *, void *), options, d->ort);
	return s;
}

winograd_domain *winograd_register(OrtApi api, void *options, const char *kernel, ptrdiff_t threads) {
	winograd_domain *d = calloc(1, sizeof *d);
	if (!d) return 0;
	d->op = (Op){.ort = definition, .api = api, .kernel = winograd_kernel(kernel), .threads = threads < 1 ? 1 : threads};
	OrtStatus *s = d->op.kernel ? fill(api, d, options) : 0;
	if (!s && d->op.kernel) return d;
	if (s) RELEASE(api, ReleaseStatus, s);
	winograd_release(d);
	return 0;
}

void winograd_release(winograd_domain *d) {
	if (d->ort) RELEASE(d->op.api, ReleaseCustomOpDomain, d->ort);
	if (d->op.memory) RELEASE(d->op.api, ReleaseMemoryInfo, d->op.memory);
	free(d);
}
