/* Marks the functions that Python calls; all others are hidden. */

#ifndef CODEGEN_EXPORT_H
#define CODEGEN_EXPORT_H

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#endif
