//go:build cgo

#ifndef OP_H
#define OP_H

#include "ort.h"

#define WINOGRAD_DOMAIN "comfyrun"

typedef struct winograd_domain winograd_domain;

// winograd_register makes the operator known to session options. kernel names
// the arithmetic, "" the fastest; threads are those of the session. It returns
// null on failure.
winograd_domain *winograd_register(OrtApi api, void *options, const char *kernel, ptrdiff_t threads);

// winograd_release releases the operator; all sessions with it must be gone.
void winograd_release(winograd_domain *domain);

#endif
