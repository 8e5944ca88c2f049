/* SPDX-License-Identifier: Apache-2.0
 *
 * Which files of a model folder are neither weights nor config.json but belong to the model. */
#ifndef PARE_FORMATS_SIDECARS_H
#define PARE_FORMATS_SIDECARS_H

#include "pare/pare.h"

bool pare_sidecar_known(const char *name);  /* a file at the top of the folder: tokenizer.json, LICENSE.txt, ... */
bool pare_sidecar_folder(const char *name); /* a module folder of sentence encoders: 1_Pooling, 2_Normalize, ... */
bool pare_weights_name(const char *name);   /* *.safetensors, *.safetensors.index.json */

#endif
