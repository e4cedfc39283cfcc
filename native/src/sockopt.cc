// How much of what a TCP socket was given may lie in the kernel unsent, and how much does. Node has no call for either.
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <climits>
#include <cerrno>

#include "args.h"
#include "errors.h"
#include "operations.h"

namespace fairlead {

void SetNotsentLowat(const Napi::CallbackInfo& info) {
  const int fd = Fd(info, 0, "fd");
  const int bytes = static_cast<int>(Integer(info, 1, "bytes", 1, INT_MAX));
  // SAFETY: the kernel copies one int and refuses a descriptor that is no TCP socket.
  if (setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes) != 0) {
    throw SystemError(info.Env(), errno, "setsockopt",
                      "could not set TCP_NOTSENT_LOWAT on descriptor " + std::to_string(fd));
  }
}

Napi::Value GetNotsent(const Napi::CallbackInfo& info) {
  const int fd = Fd(info, 0, "fd");
  int bytes = 0;
  // SAFETY: the kernel writes one int and refuses a descriptor that is no TCP socket.
  if (ioctl(fd, SIOCOUTQNSD, &bytes) != 0) {
    throw SystemError(info.Env(), errno, "ioctl",
                      "could not read the unsent bytes of descriptor " + std::to_string(fd));
  }
  return Napi::Number::New(info.Env(), bytes);
}

}  // namespace fairlead
