/* Plays the service manager in tests: binds a datagram socket at argv[1] ('@' for an abstract name), says "bound", and prints
 * each datagram on a line until it is ended. Node has no datagram sockets of this family. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) return 2;
  const size_t length = strlen(argv[1]);
  memcpy(address.sun_path, argv[1], length);
  const int is_abstract = argv[1][0] == '@';
  if (is_abstract) address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + length + !is_abstract) != 0) {
    perror("bind");
    return 1;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  puts("bound");
  char message[4096];
  for (ssize_t count; (count = recv(fd, message, sizeof message - 1, 0)) >= 0;) {
    message[count] = '\0';
    puts(message);
  }
  return 1;
}
