# The add-on's build: `node-gyp rebuild --directory native --nodedir=<a Node with its headers>`.
# Node-API only (version 8): the binary runs on every Node from 18 on, and uses no symbol of libuv or V8.
{
  "targets": [
    {
      "target_name": "fairlead_native",
      "sources": [
        "src/addon.cc",
        "src/args.cc",
        "src/cid.cc",
        "src/errors.cc",
        "src/fds.cc",
        "src/heap.cc",
        "src/notify.cc",
        "src/peer-input.cc",
        "src/pidfd.cc",
        "src/reactor.cc",
        "src/sendable.cc",
        "src/sockopt.cc",
        "src/unix-diag.cc",
        "src/unix-listen.cc",
        "src/vsock-address.cc",
        "src/vsock-connect.cc",
        "src/vsock-listen.cc",
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS_ALL", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions"],
      "cflags_cc": ["-Wall", "-Wextra", "-fvisibility=hidden", "-fstack-protector-strong"],
    }
  ]
}
