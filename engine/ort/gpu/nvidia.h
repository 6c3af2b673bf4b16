// What NVIDIA's driver says about itself and its GPUs.

enum { nvidia_max = 64 };

enum nvidia_state {
	nvidia_ok,
	nvidia_absent, // no library; text says what the loader said
	nvidia_broken, // the library lacks a function; text names it
	nvidia_failed  // a call failed; code and text say how
};

typedef struct {
	char name[256], bus[32];
	int major, minor;
	unsigned long long total, free;
} nvidia_gpu;

typedef struct {
	enum nvidia_state state;
	int code;          // CUresult
	char text[512];    // for people
	char driver[96];   // "" without NVML
	int version;       // of CUDA, 13000 is 13.0
	int count;
	nvidia_gpu gpus[nvidia_max];
} nvidia_system;

void nvidia_look(const char *cuda, const char *nvml, nvidia_system *out);
