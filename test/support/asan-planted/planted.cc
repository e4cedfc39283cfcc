// A module with a bug, to prove that the sanitizer build finds one: reads the byte behind an allocation of `size` bytes.
#include <napi.h>

#include <vector>

static Napi::Value ReadBehind(const Napi::CallbackInfo& info) {
  const std::vector<char> bytes(info[0].As<Napi::Number>().Uint32Value());
  const volatile char* end = bytes.data() + bytes.size();
  return Napi::Number::New(info.Env(), *end);
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("readBehind", Napi::Function::New(env, ReadBehind));
  return exports;
}

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
