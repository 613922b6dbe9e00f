"""Checks an Ed25519 signature with the library of OpenSSL. Standard library only, any Python >= 3.6.

OpenSSL 1.1.1, as in Debian 11, has the algorithm, but no command that checks a file with it. Arguments: a public key (PEM), the
signature, the signed file. The exit code is 0 for a good signature only. See EVP_DigestVerify(3) and RFC 8410.
"""

import base64
import ctypes
import ctypes.util
import re
import sys

ED25519 = 1087  # NID_ED25519, openssl/obj_mac.h
HEAD = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of such a key, before its 32 bytes
PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\s+(.+?)-----END PUBLIC KEY-----", re.DOTALL)


def main(key_file: str, signature_file: str, signed_file: str) -> int:
    with open(key_file, "rb") as file:
        found = PEM.search(file.read())
    with open(signature_file, "rb") as file:
        signature = file.read()
    with open(signed_file, "rb") as file:
        content = file.read()
    encoded = base64.b64decode(found.group(1)) if found else b""
    if not encoded.startswith(HEAD) or len(encoded) != len(HEAD) + 32 or len(signature) != 64:
        return 1
    return 0 if good(encoded[len(HEAD) :], signature, content) else 1


def good(key: bytes, signature: bytes, content: bytes) -> bool:
    crypto = ctypes.CDLL(ctypes.util.find_library("crypto") or "libcrypto.so")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    crypto.EVP_PKEY_new_raw_public_key.restype = pointer
    crypto.EVP_PKEY_new_raw_public_key.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, size]
    crypto.EVP_MD_CTX_new.restype = pointer
    crypto.EVP_DigestVerifyInit.argtypes = [pointer] * 5
    crypto.EVP_DigestVerify.argtypes = [pointer, ctypes.c_char_p, size, ctypes.c_char_p, size]
    public = crypto.EVP_PKEY_new_raw_public_key(ED25519, None, key, len(key))
    context = crypto.EVP_MD_CTX_new()
    if not public or not context or crypto.EVP_DigestVerifyInit(context, None, None, None, public) != 1:
        return False
    # 1 is a good signature; 0 and negative numbers are not. The process ends now, so nothing is freed.
    return bool(crypto.EVP_DigestVerify(context, signature, len(signature), content, len(content)) == 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
