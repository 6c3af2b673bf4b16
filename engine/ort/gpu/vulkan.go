package gpu

// #include <stdlib.h>
// #include "vulkan.h"
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"
)

// noDriver is VK_ERROR_INCOMPATIBLE_DRIVER: the loader is there, and no driver.
const noDriver = -9

// kinds translates VkPhysicalDeviceType.
var kinds = [...]Kind{Other, Integrated, Discrete, Virtual, Software}

// rank orders adapters as somebody who wants speed takes them.
var rank = []Kind{Discrete, Integrated, Virtual, Other, Software}

// Adapters lists what Vulkan has, fastest kind first. The error says why there
// is nothing.
func (s System) Adapters() ([]Adapter, error) {
	runtime.LockOSThread() // dlerror's text belongs to the calling thread
	defer runtime.UnlockOSThread()
	library := C.CString(cmp.Or(s.Vulkan, "libvulkan.so.1"))
	found := (*C.vulkan_system)(C.calloc(1, C.sizeof_vulkan_system))
	defer func() {
		C.free(unsafe.Pointer(library))
		C.free(unsafe.Pointer(found))
	}()
	C.vulkan_look(library, found)
	switch {
	case found.absent != 0:
		return nil, fmt.Errorf("no Vulkan: %s", C.GoString(&found.text[0]))
	case found.code == noDriver, found.code == 0 && found.count == 0:
		return nil, errors.New("no Vulkan driver for a GPU of this machine")
	case found.code != 0:
		return nil, fmt.Errorf("ask Vulkan for GPUs: error %d", found.code)
	}
	var adapters []Adapter
	for i := range int(found.count) {
		adapters = append(adapters, adapter(&found.adapters[i]))
	}
	slices.SortStableFunc(adapters, func(a, b Adapter) int {
		return cmp.Compare(slices.Index(rank, a.Kind), slices.Index(rank, b.Kind))
	})
	return adapters, nil
}

func adapter(a *C.vulkan_adapter) Adapter {
	kind, version := Other, uint(a.version)
	if int(a.kind) < len(kinds) {
		kind = kinds[a.kind]
	}
	return Adapter{
		Name: C.GoString(&a.name[0]), Kind: kind, Memory: int64(a.memory),
		Vulkan: fmt.Sprintf("%d.%d.%d", version>>22&0x7f, version>>12&0x3ff, version&0xfff),
	}
}
