/* A driver library for tests: one device whose memory is the host's. The environment says what the
 * device is called (FAKE_GPU; "none" is no device) and how many bytes it has (FAKE_GPU_MEMORY).
 * Where cuda.h is given, the compiler compares these declarations with the real ones. */
#ifdef WITH_CUDA_H
#include <cuda.h>
#else
#include <stddef.h>
typedef int CUresult;
typedef int CUdevice;
typedef int CUdevice_attribute;
typedef struct context* CUcontext;
typedef struct stream* CUstream;
typedef unsigned long long CUdeviceptr;
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_OF_MEMORY = 2, NO_DEVICE = 100, NO_CONTEXT = 201 };

static int contexts, streams;
static _Thread_local CUcontext current;
static size_t used;

static const char* from_environment(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value ? value : otherwise;
}

static size_t memory(void) {
  return strtoull(from_environment("FAKE_GPU_MEMORY", "8589934592"), 0, 10);
}

/* What has not been given back: bytes, and contexts and streams. */
size_t fake_bytes(void) { return used; }
int fake_handles(void) { return contexts + streams; }

CUresult cuInit(unsigned int flags) {
  return flags || !strcmp(from_environment("FAKE_GPU", "Fake"), "none") ? NO_DEVICE : 0;
}

CUresult cuDriverGetVersion(int* version) {
  *version = atoi(from_environment("FAKE_CUDA", "12060"));
  return 0;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return 0;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  (void)device;
  snprintf(name, (size_t)length, "%s", from_environment("FAKE_GPU", "Fake"));
  return 0;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice device) {
  (void)device;
  *value = which == 16 ? 8 : which == 75 ? 8 : which == 76 ? 7 : -1;
  return 0;
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  (void)device;
  *bytes = memory();
  return 0;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  (void)device;
  *context = (CUcontext)&contexts;
  ++contexts;
  return 0;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  (void)device;
  --contexts;
  return 0;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  current = context;
  return 0;
}

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
  (void)flags;
  *stream = (CUstream)&streams;
  ++streams;
  return current ? 0 : NO_CONTEXT;
}

CUresult cuStreamSynchronize(CUstream stream) { return current && stream ? 0 : NO_CONTEXT; }

CUresult cuStreamDestroy_v2(CUstream stream) {
  (void)stream;
  --streams;
  return 0;
}

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t size) {
  if (!current) return NO_CONTEXT;
  if (used + size > memory()) return OUT_OF_MEMORY;
  size_t* block = malloc(size + sizeof(size_t));
  *block = size;
  used += size;
  *address = (CUdeviceptr)(size_t)(block + 1);
  return 0;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  size_t* block = (size_t*)(size_t)address - 1;
  used -= *block;
  free(block);
  return 0;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t size, CUstream stream) {
  if (!current || !stream) return NO_CONTEXT;
  memcpy((void*)(size_t)to, from, size);
  return 0;
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t size, CUstream stream) {
  if (!current || !stream) return NO_CONTEXT;
  memcpy(to, (const void*)(size_t)from, size);
  return 0;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = error == OUT_OF_MEMORY ? "out of memory"
          : error == NO_DEVICE   ? "no device"
                                 : "no context";
  return 0;
}
