// Arguments from JavaScript, checked at the edge: each reader returns a value in its range or throws an ArgumentError.
// No other file looks at a raw Napi::Value that came from a caller.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fairlead {

/** A whole number in [min, max]. */
int64_t Integer(const Napi::CallbackInfo& info, size_t index, const char* name, int64_t min, int64_t max);

/** A descriptor's number. Says nothing about whether it is open: the system call does (EBADF). */
int Fd(const Napi::CallbackInfo& info, size_t index, const char* name);

/** A non-empty string without NUL bytes, as UTF-8. */
std::string Text(const Napi::CallbackInfo& info, size_t index, const char* name);

/** The bytes of a Uint8Array (or Buffer), at least one. The view is valid until control returns to JavaScript. */
Napi::Uint8Array Bytes(const Napi::CallbackInfo& info, size_t index, const char* name);

/** An array of descriptors' numbers, at most `max`. */
std::vector<int> Fds(const Napi::CallbackInfo& info, size_t index, const char* name, size_t max);

}  // namespace fairlead
