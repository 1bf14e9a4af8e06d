#include "CFabric.h"
