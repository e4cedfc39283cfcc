#include "args.h"

#include <climits>
#include <cmath>

#include "errors.h"

namespace fairlead {
namespace {

int64_t CheckedInteger(Napi::Env env, Napi::Value value, const std::string& name, int64_t min, int64_t max) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    // Every bound used is below 2^53, so that the comparison is exact; NaN fails it.
    if (number >= static_cast<double>(min) && number <= static_cast<double>(max) && std::trunc(number) == number) {
      return static_cast<int64_t>(number);
    }
  }
  throw ArgumentError(env, name + " must be a whole number from " + std::to_string(min) + " to " + std::to_string(max));
}

}  // namespace

int64_t Integer(const Napi::CallbackInfo& info, size_t index, const char* name, int64_t min, int64_t max) {
  return CheckedInteger(info.Env(), info[index], name, min, max);
}

int Fd(const Napi::CallbackInfo& info, size_t index, const char* name) {
  return static_cast<int>(Integer(info, index, name, 0, INT_MAX));
}

std::string Text(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (info[index].IsString()) {
    std::string text = info[index].As<Napi::String>().Utf8Value();
    if (!text.empty() && text.find('\0') == std::string::npos) return text;
  }
  throw ArgumentError(info.Env(), std::string(name) + " must be a non-empty string without NUL bytes");
}

Napi::Uint8Array Bytes(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (info[index].IsTypedArray() && info[index].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    Napi::Uint8Array bytes = info[index].As<Napi::Uint8Array>();
    if (bytes.ByteLength() > 0) return bytes;
  }
  throw ArgumentError(info.Env(), std::string(name) + " must be a Uint8Array of at least one byte");
}

std::vector<int> Fds(const Napi::CallbackInfo& info, size_t index, const char* name, size_t max) {
  if (!info[index].IsArray() || info[index].As<Napi::Array>().Length() > max) {
    throw ArgumentError(info.Env(),
                        std::string(name) + " must be an array of at most " + std::to_string(max) + " descriptors");
  }
  const Napi::Array array = info[index].As<Napi::Array>();
  std::vector<int> fds;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const std::string element = std::string(name) + "[" + std::to_string(i) + "]";
    fds.push_back(static_cast<int>(CheckedInteger(info.Env(), array.Get(i), element, 0, INT_MAX)));
  }
  return fds;
}

}  // namespace fairlead
