// What the kernel knows of a unix socket that no call on its descriptor tells.
#pragma once

#include <cstdint>

namespace fairlead {

struct UnixPeer {
  /** Inode of the socket at the other end; 0 where there is none. */
  uint32_t inode;
  /** SEND_SHUTDOWN or the end of the other side: nothing can be written any more. */
  bool cannot_send;
};

/** Asks for the socket of that inode (sock_diag(7)). False, and errno, where there is no answer; EOPNOTSUPP for what is no connected stream. */
bool FindUnixPeer(uint64_t inode, UnixPeer* peer);

}  // namespace fairlead
