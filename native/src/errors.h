// Errors as JavaScript sees them: an `Error` whose message is "what on what: ECODE (why)[; what to do]" and that carries
// `code` (the errno's name), `errno` (negative, as in Node's own system errors) and `syscall`.
#pragma once

#include <napi.h>

#include <string>

namespace fairlead {

/** The error for a failed system call. `what` names action and object; `hint`, where not empty, says what to do. */
Napi::Error SystemError(Napi::Env env, int errnum, const char* syscall, const std::string& what,
                        const std::string& hint = {});

/** The error for an argument that JavaScript must not pass: a TypeError with code ERR_INVALID_ARG_VALUE. */
Napi::TypeError ArgumentError(Napi::Env env, const std::string& message);

}  // namespace fairlead
