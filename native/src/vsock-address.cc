#include "vsock-address.h"

#include <cerrno>

namespace fairlead {

sockaddr_vm VsockAddress(uint32_t cid, uint32_t port) {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  return address;
}

std::string VsockName(uint32_t cid, uint32_t port) {
  std::string name = "vsock ";
  name += cid == VMADDR_CID_ANY ? "any" : std::to_string(cid);
  name += ':';
  name += port == VMADDR_PORT_ANY ? "any" : std::to_string(port);
  return name;
}

Napi::Object VsockAddressObject(Napi::Env env, const sockaddr_vm& address) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("cid", Napi::Number::New(env, address.svm_cid));
  object.Set("port", Napi::Number::New(env, address.svm_port));
  return object;
}

int SetVsockBuffer(int fd, uint64_t bytes) {
  if (bytes == 0) return 0;
  for (const int option : {SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE}) {
    // SAFETY: the caller owns fd; the kernel copies eight bytes from `bytes`.
    if (setsockopt(fd, AF_VSOCK, option, &bytes, sizeof bytes) != 0) return errno;
  }
  return 0;
}

}  // namespace fairlead
