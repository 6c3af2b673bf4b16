// The null GPU's libcudart.so.13: memory is the host's, copies copy, streams are
// in order and at once, kernels compute nothing. What it is asked to do is
// counted in the file that NULLCUDA_TRACE names. GPUS and COUNT are given by
// whoever compiles it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { success = 0, invalid_value = 1, out_of_memory = 2, invalid_device = 101, not_permitted = 900 };

static const struct {
	const char *name;
	int major, minor;
	unsigned long long total, free;
} gpus[] = {GPUS};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int device, last;

static int fail(int code) { return code ? last = code : code; }

// Counts by name, in a file that is mapped, as programs in Go end without notice.
// The name that fills its place is cut.

enum { counters = 4096, name_size = 504 };

static struct counter {
	uint64_t count;
	char name[name_size];
} *table;

static struct counter *open_table(void) {
	const char *path = getenv("NULLCUDA_TRACE");
	int file = path ? open(path, O_RDWR | O_CREAT, 0666) : -1;
	size_t size = counters * sizeof *table;
	if (file < 0 || ftruncate(file, size)) return MAP_FAILED;
	void *p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	return p;
}

// counter_of returns the counter of a name. The caller holds the lock.
static struct counter *counter_of(const char *name) {
	static struct counter none;
	uint64_t h = 14695981039346656037ull;
	for (const char *c = name; *c; c++) h = (h ^ (unsigned char)*c) * 1099511628211ull;
	if (!table) table = open_table();
	if (table == MAP_FAILED) return &none;
	struct counter *at = &table[h % counters];
	while (*at->name && strncmp(at->name, name, name_size - 1)) at = at == &table[counters - 1] ? table : at + 1;
	strncpy(at->name, name, name_size - 1);
	return at;
}

void nullcuda_count(const char *name) {
	pthread_mutex_lock(&lock);
	counter_of(name)->count++;
	pthread_mutex_unlock(&lock);
}

// Devices.

int cudaGetDeviceCount(int *n) { *n = COUNT; return success; }
int cudaGetDevice(int *d) { *d = device; return success; }
int cudaSetDevice(int d) {
	if (d < 0 || d >= COUNT) return fail(invalid_device);
	device = d;
	return success;
}
int cudaRuntimeGetVersion(int *v) { *v = 13000; return success; }
int cudaDriverGetVersion(int *v) { *v = 13000; return success; }
int cudaDeviceSynchronize(void) { return success; }
int cudaGetLastError(void) { int code = last; last = 0; return code; }
int cudaPeekAtLastError(void) { return last; }

static const struct { int code; const char *name, *text; } errors[] = {
	{0, "cudaSuccess", "no error"},
	{1, "cudaErrorInvalidValue", "invalid argument"},
	{2, "cudaErrorMemoryAllocation", "out of memory"},
	{101, "cudaErrorInvalidDevice", "invalid device ordinal"},
	{900, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
};

const char *cudaGetErrorName(int code) {
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].code == code) return errors[i].name;
	return "unrecognized error code";
}
const char *cudaGetErrorString(int code) {
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].code == code) return errors[i].text;
	return "unrecognized error code";
}

// Attributes of an H100, by their numbers in the runtime's interface.
static const struct { int attribute, value; } attributes[] = {
	{1, 1024}, {2, 1024}, {3, 1024}, {4, 64},        // threads in a block, and in each direction
	{5, 2147483647}, {6, 65535}, {7, 65535},         // blocks in each direction
	{8, 49152}, {97, 232448}, {81, 233472},          // shared memory: block, block that asks for more, multiprocessor
	{9, 65536}, {10, 32}, {12, 65536}, {82, 65536},  // constants, threads in a warp, registers of block and multiprocessor
	{14, 512}, {16, 132}, {31, 1}, {38, 52428800}, {39, 2048}, // multiprocessors, second-level cache, threads of a multiprocessor
	{41, 1}, {95, 1}, {115, 1},                      // one address space, cooperative kernels, pools of memory
};

int cudaDeviceGetAttribute(int *value, int attribute, int d) {
	if (d < 0 || d >= COUNT) return fail(invalid_device);
	*value = attribute == 75 ? gpus[d].major : attribute == 76 ? gpus[d].minor : 0;
	for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
		if (attributes[i].attribute == attribute) *value = attributes[i].value;
	return success;
}

// struct cudaDeviceProp of CUDA 13, as far as it is filled in.
struct properties {
	char name[256], ids[24];
	unsigned mask;
	size_t total, shared_block;
	int registers, warp;
	size_t pitch;
	int threads, dim[3], grid[3];
	size_t constant;
	int major, minor;
	size_t texture_alignment, texture_pitch;
	int multiprocessors, integrated, map_host, texture[38];
	size_t surface_alignment;
	int concurrent_kernels, ecc, bus, slot, domain, tcc, engines, unified, bus_width, l2, l2_persisting, threads_multiprocessor, misc[3];
	size_t shared_multiprocessor;
	int registers_multiprocessor, managed, multi[7], cooperative;
	size_t shared_optin;
	int host_tables, direct, blocks_multiprocessor, window;
	size_t shared_reserved;
	int rest[76];
};

int cudaGetDeviceProperties(struct properties *p, int d) {
	if (d < 0 || d >= COUNT) return fail(invalid_device);
	memset(p, 0, sizeof *p);
	strncpy(p->name, gpus[d].name, 255);
	p->total = gpus[d].total, p->shared_block = 49152, p->registers = 65536, p->warp = 32, p->pitch = 2147483647;
	p->threads = 1024, p->dim[0] = p->dim[1] = 1024, p->dim[2] = 64;
	p->grid[0] = 2147483647, p->grid[1] = p->grid[2] = 65535;
	p->constant = 65536, p->major = gpus[d].major, p->minor = gpus[d].minor;
	p->texture_alignment = 512, p->texture_pitch = 32, p->multiprocessors = 132, p->map_host = 1;
	p->surface_alignment = 512, p->concurrent_kernels = 1, p->bus = d, p->engines = 3, p->unified = 1;
	p->bus_width = 5120, p->l2 = 52428800, p->threads_multiprocessor = 2048;
	p->shared_multiprocessor = 233472, p->registers_multiprocessor = 65536, p->managed = 1, p->cooperative = 1;
	p->shared_optin = 232448, p->blocks_multiprocessor = 32, p->shared_reserved = 1024;
	return success;
}

// Memory. Each device has what its description says is free.

struct block {
	char *at;
	size_t size;
	int device; // -1 is the host's
};

static struct block *blocks;
static size_t block_count, block_room;
static unsigned long long used[COUNT + 1];

// grow notes what a device has allocated, and the most since it had nothing.
static void grow(int owner, size_t room) {
	char name[64];
	snprintf(name, sizeof name, "most bytes of device %d", owner);
	uint64_t *most = &counter_of(name)->count;
	if (!used[owner]) *most = 0;
	used[owner] += room;
	if (used[owner] > *most) *most = used[owner];
}

static int allocate(void **out, size_t size, int owner) {
	size_t room = (size + 4095) & ~(size_t)4095;
	*out = 0;
	if (!size) return success;
	pthread_mutex_lock(&lock);
	int full = owner >= 0 && used[owner] + room > gpus[owner].free;
	void *p = full ? MAP_FAILED : mmap(0, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p != MAP_FAILED) {
		if (block_count == block_room) blocks = realloc(blocks, sizeof *blocks * (block_room = 2 * block_room + 64));
		blocks[block_count++] = (struct block){*out = p, room, owner};
		if (owner >= 0) grow(owner, room);
	}
	pthread_mutex_unlock(&lock);
	return p == MAP_FAILED ? fail(out_of_memory) : success;
}

static int release(void *p) {
	int code = p ? invalid_value : success;
	pthread_mutex_lock(&lock);
	for (size_t i = block_count; code && i-- > 0;) {
		if (blocks[i].at != p) continue;
		munmap(p, blocks[i].size);
		if (blocks[i].device >= 0) used[blocks[i].device] -= blocks[i].size;
		blocks[i] = blocks[--block_count];
		code = success;
	}
	pthread_mutex_unlock(&lock);
	return fail(code);
}

static int owner_of(const void *p) {
	int owner = -1;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < block_count; i++)
		if ((const char *)p >= blocks[i].at && (const char *)p < blocks[i].at + blocks[i].size) owner = blocks[i].device;
	pthread_mutex_unlock(&lock);
	return owner;
}

int cudaMalloc(void **out, size_t size) {
	nullcuda_count("cudaMalloc");
	return allocate(out, size, device);
}
int cudaFree(void *p) { return release(p); }
int cudaMallocHost(void **out, size_t size) { return allocate(out, size, -1); }
int cudaHostAlloc(void **out, size_t size, unsigned flags) { return allocate(out, size, -1); }
int cudaFreeHost(void *p) { return release(p); }
int cudaMemPoolCreate(void **pool, const void *properties) { *pool = malloc(1); return success; }
int cudaMemPoolDestroy(void *pool) { free(pool); return success; }
int cudaMemPoolGetAttribute(void *pool, int attribute, void *value) { memset(value, 0, 8); return success; }
int cudaMemPoolSetAttribute(void *pool, int attribute, void *value) { return success; }
int cudaMemPoolTrimTo(void *pool, size_t keep) { return success; }
int cudaMallocFromPoolAsync(void **out, size_t size, void *pool, void *stream) { return allocate(out, size, device); }
int cudaFreeAsync(void *p, void *stream) { return release(p); }

int cudaMemGetInfo(size_t *free, size_t *total) {
	pthread_mutex_lock(&lock);
	*free = gpus[device].free - used[device], *total = gpus[device].total;
	pthread_mutex_unlock(&lock);
	return success;
}

struct pointer { int type, device; void *on_device, *on_host; long reserved[8]; };

int cudaPointerGetAttributes(struct pointer *a, const void *p) {
	int owner = owner_of(p);
	memset(a, 0, sizeof *a);
	a->type = owner >= 0 ? 2 : 0, a->device = owner, a->on_device = owner >= 0 ? (void *)p : 0;
	return success;
}

// Copies.

struct copy {
	char *to;
	const char *from; // 0 writes value
	size_t size, rows, to_step, from_step;
	int value;
};

// answer writes what a trial graph must give, in place of what was not computed:
// the file that NULLCUDA_ANSWERS names holds the length of each in bytes, as 64
// bits, and the answer.
static void answer(void *to, size_t size) {
	const char *path = getenv("NULLCUDA_ANSWERS");
	FILE *f = path ? fopen(path, "rb") : 0;
	uint64_t n;
	if (!f) return;
	while (fread(&n, 8, 1, f) == 1) {
		if (n == size && fread(to, 1, n, f) == n) break;
		if (fseek(f, n, SEEK_CUR)) break;
	}
	fclose(f);
}

static const char *const ways[] = {"copy within the host", "copy to the device", "copy to the host", "copy within the device", "copy of either way"};

static int transfer(struct copy c, int way) {
	nullcuda_count(c.from ? ways[way] : "fill");
	for (size_t row = 0; row < c.rows; row++) {
		if (c.from)
			memmove(c.to + row * c.to_step, c.from + row * c.from_step, c.size);
		else
			memset(c.to + row * c.to_step, c.value, c.size);
	}
	if (way == 2) answer(c.to, c.size);
	return success;
}

int cudaMemcpy(void *to, const void *from, size_t size, int way) { return transfer((struct copy){to, from, size, 1}, way); }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int way, void *stream) { return cudaMemcpy(to, from, size, way); }
int cudaMemcpy2DAsync(void *to, size_t to_step, const void *from, size_t from_step, size_t width, size_t height, int way, void *stream) {
	return transfer((struct copy){to, from, width, height, to_step, from_step}, way);
}
int cudaMemcpyFromSymbol(void *to, const void *symbol, size_t size, size_t offset, int way) { memset(to, 0, size); return success; }
int cudaMemset(void *to, int value, size_t size) { return transfer((struct copy){to, 0, size, 1, .value = value}, 3); }
int cudaMemsetAsync(void *to, int value, size_t size, void *stream) { return cudaMemset(to, value, size); }

// Streams and events. Graphs cannot be recorded.

int cudaStreamCreate(void **s) { *s = malloc(1); return success; }
int cudaStreamCreateWithFlags(void **s, unsigned flags) { return cudaStreamCreate(s); }
int cudaStreamDestroy(void *s) { free(s); return success; }
int cudaStreamWaitEvent(void *s, void *event, unsigned flags) { return success; }
int cudaStreamSynchronize(void *s) { return success; }
int cudaStreamIsCapturing(void *s, int *status) { *status = 0; return success; }

int cudaEventCreate(void **event) { *event = malloc(1); return success; }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return cudaEventCreate(event); }
int cudaEventDestroy(void *event) { free(event); return success; }
int cudaEventRecord(void *event, void *s) { return success; }
int cudaEventSynchronize(void *event) { return success; }
int cudaEventElapsedTime(float *milliseconds, void *begin, void *end) { *milliseconds = 1; return success; }

int cudaStreamBeginCapture(void *s, int mode) { return fail(not_permitted); }
int cudaStreamEndCapture(void *s, void **graph) { return fail(not_permitted); }
int cudaGraphInstantiate(void **executable, void *graph, unsigned long long flags) { return fail(not_permitted); }
int cudaGraphLaunch(void *executable, void *s) { return fail(not_permitted); }
int cudaGraphDestroy(void *graph) { return success; }
int cudaGraphExecDestroy(void *executable) { return success; }
int cudaLaunchHostFunc(void *s, void (*call)(void *), void *data) { call(data); return success; }

// Kernels. Each is known by the address of its stub on the host, or by a handle.

struct dim3 { unsigned x, y, z; };

static struct { const void *stub; const char *name; } *kernels;
static size_t kernel_count, kernel_room;

static void name_kernel(const void *stub, const char *name) {
	pthread_mutex_lock(&lock);
	if (kernel_count == kernel_room) kernels = realloc(kernels, sizeof *kernels * (kernel_room = 2 * kernel_room + 4096));
	kernels[kernel_count].stub = stub, kernels[kernel_count++].name = name;
	pthread_mutex_unlock(&lock);
}

static int by_stub(const void *a, const void *b) {
	const char *x = *(const char *const *)a, *y = *(const char *const *)b;
	return (x > y) - (x < y);
}

static int launch(const void *stub) {
	static size_t sorted;
	const void *key[2] = {stub};
	pthread_mutex_lock(&lock);
	if (sorted != kernel_count) qsort(kernels, sorted = kernel_count, sizeof *kernels, by_stub);
	const char *const *found = bsearch(key, kernels, kernel_count, sizeof *kernels, by_stub);
	pthread_mutex_unlock(&lock);
	nullcuda_count(found ? found[1] : "a kernel without a name");
	return success;
}

void **__cudaRegisterFatBinary(void *binary) { return calloc(1, sizeof(void *)); }
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) { free(handle); }
void __cudaRegisterVar(void) {}
void __cudaRegisterFunction(void **handle, const void *stub, char *function, const char *name) { name_kernel(stub, name); }
int __cudaGetKernel(const void **kernel, const void *stub) { *kernel = stub; return success; }
int cudaLibraryLoadData(void **library, const void *code) { *library = malloc(1); return success; }
int cudaLibraryUnload(void *library) { free(library); return success; }
int cudaLibraryGetKernel(const void **kernel, void *library, const char *name) {
	char *own = strdup(name);
	name_kernel(*kernel = own, own);
	return success;
}

static __thread struct { struct dim3 grid, block; size_t shared; void *stream; } pushed;

unsigned __cudaPushCallConfiguration(struct dim3 grid, struct dim3 block, size_t shared, void *stream) {
	pushed.grid = grid, pushed.block = block, pushed.shared = shared, pushed.stream = stream;
	return 0;
}
int __cudaPopCallConfiguration(struct dim3 *grid, struct dim3 *block, size_t *shared, void **stream) {
	*grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *stream = pushed.stream;
	return success;
}
int cudaLaunchKernel(const void *f, struct dim3 grid, struct dim3 block, void **in, size_t shared, void *stream) { return launch(f); }
int __cudaLaunchKernel(const void *f, struct dim3 grid, struct dim3 block, void **in, size_t shared, void *stream) { return launch(f); }
int cudaLaunchCooperativeKernel(const void *f, struct dim3 grid, struct dim3 block, void **in, size_t shared, void *stream) { return launch(f); }

int cudaLaunchKernelExC(const void *configuration, const void *f, void **in) { return launch(f); }

struct function { size_t shared, constant, local; int threads, registers, ptx, binary; };

int cudaFuncGetAttributes(struct function *a, const void *f) {
	memset(a, 0, sizeof *a);
	a->threads = 1024, a->registers = 64, a->ptx = a->binary = 10 * gpus[device].major + gpus[device].minor;
	return success;
}
int cudaFuncSetAttribute(const void *f, int attribute, int value) { return success; }
int cudaKernelSetAttributeForDevice(const void *kernel, int attribute, int value, int d) { return success; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *f, int size, size_t shared, unsigned flags) {
	*blocks = 1;
	return success;
}
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags, int *status) {
	*function = 0;
	if (status) *status = 1;
	return success;
}
