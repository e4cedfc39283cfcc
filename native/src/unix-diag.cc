#include "unix-diag.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "unique-fd.h"

namespace fairlead {
namespace {

struct Request {
  nlmsghdr header;
  unix_diag_req body;
};

// RCV_SHUTDOWN and SEND_SHUTDOWN of net/sock.h, which is no header of programs.
constexpr uint8_t kSendShutdown = 2;

template <typename Value>
bool Read(const rtattr* attribute, Value* value) {
  if (RTA_PAYLOAD(attribute) < sizeof *value) return false;
  std::memcpy(value, RTA_DATA(attribute), sizeof *value);
  return true;
}

/** False, and errno, where the message is no answer. */
bool Parse(const nlmsghdr* header, size_t length, uint32_t inode, UnixPeer* peer) {
  errno = EPROTO;
  if (!NLMSG_OK(header, length)) return false;
  if (header->nlmsg_type == NLMSG_ERROR && header->nlmsg_len >= NLMSG_LENGTH(sizeof(nlmsgerr))) {
    errno = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
    return false;
  }
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len < NLMSG_LENGTH(sizeof(unix_diag_msg))) return false;
  const auto* message = static_cast<const unix_diag_msg*>(NLMSG_DATA(header));
  if (message->udiag_ino != inode) return false;
  errno = EOPNOTSUPP;
  if (message->udiag_type != SOCK_STREAM || message->udiag_state != TCP_ESTABLISHED) return false;
  *peer = {0, false};
  // SAFETY: RTA_OK bounds every attribute by what is left of the message, which the kernel wrote.
  auto* attribute = reinterpret_cast<const rtattr*>(message + 1);
  auto left = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof *message));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    uint8_t shutdown = 0;
    if (attribute->rta_type == UNIX_DIAG_PEER) Read(attribute, &peer->inode);
    if (attribute->rta_type == UNIX_DIAG_SHUTDOWN && Read(attribute, &shutdown)) {
      peer->cannot_send = (shutdown & kSendShutdown) != 0;
    }
  }
  return true;
}

}  // namespace

bool FindUnixPeer(uint64_t inode, UnixPeer* peer) {
  if (inode > UINT32_MAX) {
    errno = EOVERFLOW;
    return false;
  }
  const UniqueFd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink.valid()) return false;
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_family = AF_UNIX;
  request.body.udiag_states = ~0u;
  request.body.udiag_ino = static_cast<uint32_t>(inode);
  request.body.udiag_show = UDIAG_SHOW_PEER;
  request.body.udiag_cookie[0] = request.body.udiag_cookie[1] = ~0u;
  if (send(netlink.get(), &request, sizeof request, MSG_NOSIGNAL) != sizeof request) return false;
  alignas(nlmsghdr) char answer[1024];
  // The kernel has answered by now: the request was served within send.
  const ssize_t length = recv(netlink.get(), answer, sizeof answer, MSG_DONTWAIT);
  if (length < 0) return false;
  return Parse(reinterpret_cast<const nlmsghdr*>(answer), static_cast<size_t>(length), request.body.udiag_ino, peer);
}

}  // namespace fairlead
