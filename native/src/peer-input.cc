// Takes the input out of the other end of a unix connection, in another process, for a moment. Who reads there finds its socket empty
// meanwhile, and everything in its old order afterwards.
#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <vector>

#include "args.h"
#include "errors.h"
#include "operations.h"
#include "unique-fd.h"
#include "unix-diag.h"

namespace fairlead {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kMaxTakeBytes = 16 << 20;
constexpr int64_t kMaxWaitMs = 1'000;
/** For the room that what was taken had before; where it must be waited for, the kernel has changed its mind on what that is. */
constexpr auto kReturnLimit = std::chrono::milliseconds(100);
constexpr char kMayNot[] =
    "it takes the right to trace that process (ptrace(2)): as the same user where kernel.yama.ptrace_scope allows it, or CAP_SYS_PTRACE";

void Pause() {
  const timespec step{0, 100'000};
  nanosleep(&step, nullptr);
}

/** Bytes that wait to be read; -1 and errno. */
int Waiting(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCINQ, &bytes) == 0 ? bytes : -1;
}

/** The number that the process has for the socket of that inode; -1 and errno. */
int NumberIn(pid_t pid, uint32_t inode) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd";
  const std::string wanted = "socket:[" + std::to_string(inode) + "]";
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  if (directory == nullptr) return -1;
  int refused = ENOENT;
  while (const dirent* entry = readdir(directory.get())) {
    char target[64];
    const ssize_t length = readlinkat(dirfd(directory.get()), entry->d_name, target, sizeof target);
    if (length < 0 && errno == EACCES) refused = EACCES;
    if (length > 0 && wanted.compare(0, std::string::npos, target, static_cast<size_t>(length)) == 0) {
      return std::atoi(entry->d_name);
    }
  }
  errno = refused;
  return -1;
}

/** Everything goes back, or as much as the other end lets in before the limit. How many bytes did. */
size_t Return(int fd, const std::vector<char>& bytes) {
  const auto ends = Clock::now() + kReturnLimit;
  size_t returned = 0;
  int usual = 0;
  while (returned < bytes.size()) {
    const ssize_t sent = send(fd, bytes.data() + returned, bytes.size() - returned, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      returned += static_cast<size_t>(sent);
    } else if (errno == EAGAIN && usual == 0) {
      // Cut otherwise than before, the same bytes may need more room. The kernel doubles what it is given (socket(7)).
      socklen_t length = sizeof usual;
      if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &usual, &length) != 0) usual = -1;
      if (usual > 0) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &usual, sizeof usual);
    } else if ((errno == EAGAIN || errno == EINTR) && Clock::now() < ends) {
      Pause();
    } else {
      break;
    }
  }
  if (usual > 0) {
    usual /= 2;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &usual, sizeof usual);
  }
  return returned;
}

}  // namespace

Napi::Value LiftPeerInput(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Fd(info, 0, "fd");
  const auto pid = static_cast<pid_t>(Integer(info, 1, "pid", 1, INT_MAX));
  const auto max_bytes = static_cast<int>(Integer(info, 2, "maxBytes", 1, kMaxTakeBytes));
  const auto wait = std::chrono::milliseconds(Integer(info, 3, "waitMs", 0, kMaxWaitMs));
  const std::string what = "could not lift the input of process " + std::to_string(pid) + " at the other end of descriptor " +
                           std::to_string(fd);
  const auto fail = [&](const char* call, int errnum, const char* hint = "") {
    return SystemError(env, errnum, call, what, errnum == EPERM || errnum == EACCES ? kMayNot : hint);
  };

  struct stat ours{};
  if (fstat(fd, &ours) != 0) throw fail("fstat", errno);
  if (!S_ISSOCK(ours.st_mode)) throw fail("fstat", ENOTSOCK);
  UnixPeer peer{};
  if (!FindUnixPeer(ours.st_ino, &peer)) throw fail("sock_diag", errno);
  if (peer.inode == 0) throw fail("sock_diag", ENOTCONN);
  if (peer.cannot_send) throw fail("sock_diag", EPIPE, "what is taken could not be put back");

  // SAFETY: a pidfd is close-on-exec by definition.
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0u)));
  if (!process.valid()) throw fail("pidfd_open", errno);
  const int number = NumberIn(pid, peer.inode);
  if (number < 0) throw fail("readlink", errno, "the other end belongs to another process");
  // SAFETY: close-on-exec by definition, and a number of our own for the file of the other process, which keeps its own.
  const UniqueFd theirs(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), number, 0u)));
  if (!theirs.valid()) throw fail("pidfd_getfd", errno);
  struct stat got{};
  if (fstat(theirs.get(), &got) != 0) throw fail("fstat", errno);
  // The process may have closed it, and given its number to another file.
  if (got.st_ino != peer.inode || got.st_dev != ours.st_dev) throw fail("pidfd_getfd", ESTALE);

  // Nobody but this thread writes to it, so that it cannot become more.
  const int waiting = Waiting(theirs.get());
  const int before = Waiting(fd);
  if (waiting < 0 || before < 0) throw fail("ioctl", errno);
  if (waiting > max_bytes) throw fail("ioctl", EMSGSIZE);
  Napi::Object result = Napi::Object::New(env);
  std::vector<char> bytes(static_cast<size_t>(waiting));
  size_t returned = 0;
  int came = 0;
  if (waiting > 0 && before == 0) {
    // SAFETY: one call takes all of it, under the lock that every reader of a unix stream holds; there is nothing behind it to overtake.
    const ssize_t taken = recv(theirs.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (taken < 0 && errno != EAGAIN) throw fail("recv", errno);
    bytes.resize(taken < 0 ? 0 : static_cast<size_t>(taken));
    // From here on nothing may throw before all is back.
    const auto ends = Clock::now() + wait;
    while ((came = Waiting(fd)) == 0 && !bytes.empty() && Clock::now() < ends) Pause();
    returned = Return(fd, bytes);
  } else {
    bytes.clear();
  }
  result.Set("takenBytes", Napi::Number::New(env, static_cast<double>(bytes.size())));
  result.Set("returnedBytes", Napi::Number::New(env, static_cast<double>(returned)));
  result.Set("cameBytes", Napi::Number::New(env, came > 0 ? came : 0));
  return result;
}

Napi::Value GetUntaken(const Napi::CallbackInfo& info) {
  const int fd = Fd(info, 0, "fd");
  int bytes = 0;
  // SAFETY: the kernel writes one int and refuses a descriptor that is no socket.
  if (ioctl(fd, SIOCOUTQ, &bytes) != 0) {
    throw SystemError(info.Env(), errno, "ioctl", "could not read what is untaken of descriptor " + std::to_string(fd));
  }
  return Napi::Number::New(info.Env(), bytes);
}

}  // namespace fairlead
