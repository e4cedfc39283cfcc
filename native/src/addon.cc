// The module's entry: the table of operations, and one reactor an environment, so that workers are independent.
#include <napi.h>

#include "operations.h"
#include "reactor.h"

namespace fairlead {

// What ../index.ts expects; raise it there and here when an operation's arguments or results change.
constexpr int kInterfaceVersion = 4;

Reactor& ReactorOf(Napi::Env env) { return *env.GetInstanceData<Reactor>(); }

namespace {

template <typename Operation>
void Export(Napi::Env env, Napi::Object exports, const char* name, Operation operation) {
  exports.Set(name, Napi::Function::New(env, operation, name));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Reactor());
  exports.Set("interfaceVersion", Napi::Number::New(env, kInterfaceVersion));
  Export(env, exports, "vsockConnect", VsockConnect);
  Export(env, exports, "cancelConnect", CancelConnect);
  Export(env, exports, "vsockListen", VsockListen);
  Export(env, exports, "vsockPeer", VsockPeer);
  Export(env, exports, "vsockLocal", VsockLocal);
  Export(env, exports, "vsockLocalCid", VsockLocalCid);
  Export(env, exports, "reserveCid", ReserveCid);
  Export(env, exports, "socketpair", Socketpair);
  Export(env, exports, "swapInto", SwapInto);
  Export(env, exports, "closeFd", CloseFd);
  Export(env, exports, "sendFds", SendFds);
  Export(env, exports, "recvFds", RecvFds);
  Export(env, exports, "unixListen", UnixListen);
  Export(env, exports, "unixListenAbstract", UnixListenAbstract);
  Export(env, exports, "pidfdOpen", PidfdOpen);
  Export(env, exports, "pidfdSignal", PidfdSignal);
  Export(env, exports, "pidfdWait", PidfdWait);
  Export(env, exports, "pidfdClose", PidfdClose);
  Export(env, exports, "setNotsentLowat", SetNotsentLowat);
  Export(env, exports, "getNotsent", GetNotsent);
  Export(env, exports, "waitSendable", WaitSendable);
  Export(env, exports, "cancelSendable", CancelSendable);
  Export(env, exports, "liftPeerInput", LiftPeerInput);
  Export(env, exports, "getUntaken", GetUntaken);
  Export(env, exports, "sdNotify", SdNotify);
  Export(env, exports, "trimHeap", TrimHeap);
  return exports;
}

}  // namespace
}  // namespace fairlead

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) { return fairlead::Init(env, exports); }
NODE_API_MODULE(fairlead_native, InitModule)
