#include "errors.h"

#include <cstring>

namespace fairlead {

Napi::Error SystemError(Napi::Env env, int errnum, const char* syscall, const std::string& what,
                        const std::string& hint) {
  // Both functions return static strings (glibc >= 2.32), so that threads may share them; null for an unknown number.
  const char* name = strerrorname_np(errnum);
  const char* description = strerrordesc_np(errnum);
  const std::string code = name != nullptr ? name : std::string("E").append(std::to_string(errnum));
  std::string message = what + ": " + code;
  if (description != nullptr) message += std::string(" (") + description + ")";
  if (!hint.empty()) message += "; " + hint;

  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  error.Set("errno", Napi::Number::New(env, -errnum));
  error.Set("syscall", Napi::String::New(env, syscall));
  return error;
}

Napi::TypeError ArgumentError(Napi::Env env, const std::string& message) {
  Napi::TypeError error = Napi::TypeError::New(env, message);
  error.Set("code", Napi::String::New(env, "ERR_INVALID_ARG_VALUE"));
  return error;
}

}  // namespace fairlead
