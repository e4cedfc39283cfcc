// Context ids: this machine's own, and reserving one for a guest. A CID belongs to whoever holds an open /dev/vhost-vsock
// on which it was set: reserving it here and handing the descriptor to QEMU (vhostfd=) leaves no race between choosing and
// using, and QEMU needs no access to the device.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/random.h>

#include <cerrno>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "unique-fd.h"
#include "vsock-address.h"

namespace fairlead {
namespace {

constexpr const char* kVsock = "/dev/vsock";
constexpr const char* kVhostVsock = "/dev/vhost-vsock";

// VHOST_VSOCK_SET_GUEST_CID of linux/vhost.h, which no C++ compiler of Debian 12 accepts (its virtio_ring.h is C only).
constexpr unsigned long kSetGuestCid = _IOW(0xAF, 0x60, uint64_t);

// 0 to 2 are the hypervisor, the loopback and the host; the last value means any.
constexpr int64_t kFirstGuestCid = 3;
constexpr int64_t kLastGuestCid = kMaxU32 - 1;

// How many neighbours are tried. A host with so many CIDs in a row does not choose at random.
constexpr int kMaxScan = 4096;

UniqueFd OpenDevice(Napi::Env env, const char* path, int flags, const std::string& what) {
  // SAFETY: close-on-exec from birth, owned by the result.
  UniqueFd fd(open(path, flags | O_CLOEXEC));
  if (fd.valid()) return fd;
  const int errnum = errno;
  std::string hint;
  if (errnum == ENOENT) hint = std::string("load the kernel module ") + (path == kVsock ? "vsock" : "vhost_vsock");
  if (errnum == EACCES || errnum == EPERM) hint = "the user needs read and write access to it";
  throw SystemError(env, errnum, "open", what + " through " + path, hint);
}

int64_t RandomCid(Napi::Env env) {
  uint32_t random = 0;
  // Four bytes never come in parts, and are never interrupted (getrandom(2)).
  if (getrandom(&random, sizeof random, 0) != sizeof random) {
    throw SystemError(env, errno, "getrandom", "could not choose a CID");
  }
  return kFirstGuestCid + random % (kLastGuestCid - kFirstGuestCid + 1);
}

int SetGuestCid(const UniqueFd& device, int64_t cid) {
  const auto value = static_cast<uint64_t>(cid);
  // SAFETY: device is owned and open; the kernel copies eight bytes.
  return ioctl(device.get(), kSetGuestCid, &value) == 0 ? 0 : errno;
}

}  // namespace

Napi::Value VsockLocalCid(const Napi::CallbackInfo& info) {
  const char* what = "could not read this machine's CID";
  const UniqueFd device = OpenDevice(info.Env(), kVsock, O_RDONLY, what);
  uint32_t cid = 0;
  // SAFETY: device is owned and open; the kernel writes four bytes.
  if (ioctl(device.get(), IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) != 0) throw SystemError(info.Env(), errno, "ioctl", what);
  return Napi::Number::New(info.Env(), cid);
}

Napi::Value ReserveCid(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const bool is_fixed = !info[0].IsUndefined();
  const bool has_start = !info[1].IsUndefined();
  int64_t cid = is_fixed    ? Integer(info, 0, "cid", kFirstGuestCid, kLastGuestCid)
                : has_start ? Integer(info, 1, "from", kFirstGuestCid, kLastGuestCid)
                            : RandomCid(env);

  UniqueFd device = OpenDevice(env, kVhostVsock, O_RDWR, "could not reserve a CID");
  int errnum = SetGuestCid(device, cid);
  for (int tries = 1; errnum == EADDRINUSE && !is_fixed && tries < kMaxScan; tries++) {
    cid = cid == kLastGuestCid ? kFirstGuestCid : cid + 1;
    errnum = SetGuestCid(device, cid);
  }
  if (errnum != 0) {
    const char* hint = errnum == EADDRINUSE ? "another VM of this host has it" : "";
    throw SystemError(env, errnum, "ioctl", "could not reserve CID " + std::to_string(cid), hint);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("cid", Napi::Number::New(env, static_cast<double>(cid)));
  // SAFETY: ownership goes to JavaScript with the number; the CID is free again when the last copy is closed.
  result.Set("fd", Napi::Number::New(env, device.Release()));
  return result;
}

}  // namespace fairlead
