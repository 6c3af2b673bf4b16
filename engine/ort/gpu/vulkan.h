// What Vulkan lists.

enum { vulkan_max = 16 };

typedef struct {
	char name[256];
	unsigned kind; // VkPhysicalDeviceType
	unsigned version;
	unsigned long long memory;
} vulkan_adapter;

typedef struct {
	int absent;     // no library; text says what the loader said
	int code;       // VkResult, 0 is success
	char text[512];
	int count;
	vulkan_adapter adapters[vulkan_max];
} vulkan_system;

void vulkan_look(const char *library, vulkan_system *out);
