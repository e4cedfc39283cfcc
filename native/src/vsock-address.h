// AF_VSOCK addresses and socket options that connecting and listening share.
#pragma once

#include <napi.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include <cstdint>
#include <string>

namespace fairlead {

constexpr int64_t kMaxU32 = 0xffffffff;
// 4 GiB is far beyond what the kernel grants; it bounds nonsense.
constexpr int64_t kMaxBufferBytes = kMaxU32;

sockaddr_vm VsockAddress(uint32_t cid, uint32_t port);

/** "vsock 42:1234" for messages. */
std::string VsockName(uint32_t cid, uint32_t port);

/** {cid, port} for JavaScript. */
Napi::Object VsockAddressObject(Napi::Env env, const sockaddr_vm& address);

/** Sets the credit buffer; 0 leaves the kernel's 256 KiB. Before connect or listen; accepted sockets inherit it. The
 * maximum is raised first: the kernel silently clamps the size to it. Returns 0 or the errno. */
int SetVsockBuffer(int fd, uint64_t bytes);

}  // namespace fairlead
